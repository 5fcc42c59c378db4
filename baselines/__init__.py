"""What the paper's models are compared with: i-DarkVec, in `darkvec.py`. Imports nothing of ours."""
