"""What a video shows when: a script that people write, and the shots that it means for one video.

Integers, exact times and text; knows no tensors, no model and no host.
"""
