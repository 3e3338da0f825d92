"""The equations of arXiv:2203.11437v1 as SymPy objects: each step names its rule and is verified when asked.

One module for each group of equations. A `Derivation` is a chain of `Step`s; its LaTeX is printed from the objects that
are verified, and `evaluation.compile_loss` turns the same objects into functions of numbers, which the project compares
with its Pyro pairs.

    >>> from ssl_as_inference.derivations.vi_simsiam import CORRECTED_LOSS
    >>> CORRECTED_LOSS.verify()
"""
