"""What an experiment leaves behind, and the pages made from it."""
