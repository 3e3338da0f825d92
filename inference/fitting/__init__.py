"""How a pair is fitted: the objective, target rules, weights, training."""
