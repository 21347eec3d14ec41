"""What other nodes can put into an input, drawn at random, and what must come of it.

Everything is drawn from one `random.Random`, so that a case is a number: the same seed gives the
same inputs, for a model with memory as for one without.
"""
