"""What goes into a rollout: what an input can carry is read, known to be harmless, or refused.

Both ways of sampling come through here before the model runs. What nobody knows is said.
"""
