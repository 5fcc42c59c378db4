"""What the paper does not have. None of these files imports another of ours.

    steady      each host as the posterior mean of its own centre: `--steady`
    fixed_gcn   a graph convolution that is never trained: `--model fixed-gcn`
    ranks       features scaled by rank, so that heavy tails do not matter
    subnets     subnet agreement, a yardstick that needs no labels
"""
