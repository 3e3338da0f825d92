"""Pretraining on images: its configuration, the networks it asks for, the loop, what is watched, saved and exported."""
