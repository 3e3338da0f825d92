"""How any model/guide pair is fitted and judged: objective, target rules, training, evaluation."""
