"""What the commands share on the command line."""
