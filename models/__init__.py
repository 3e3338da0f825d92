"""The methods, one file each: SimSiam, BYOL and VI-SimSiam as model/guide pairs, and the networks they are built of."""
