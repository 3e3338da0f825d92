"""Random views of images with SimSiam's published parameters, on two paths with one law.

`batched.BatchedViews` makes the views of a whole batch on the device where the images are; `per_sample.SampleViews`
makes them one image at a time from Pillow images, in the workers of a data loader. On request, with lost detail, noise
and covers among them (`defects`).
"""
