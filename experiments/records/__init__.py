"""Records of experiments, and the pages made from them."""
