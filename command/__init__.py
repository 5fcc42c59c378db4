"""The command around the loop of darkgnn.py: its flags (`flags.py`), and how it speaks and ends (`speak.py`).

Imports scale, for which processes there are, and the rooms whose names the flags take.
"""
