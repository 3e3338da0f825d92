"""Random views with SimSiam's published parameters, made for a whole batch on the device where the images are.

On request, with lost detail, noise and covers among them (`defects`).
"""
