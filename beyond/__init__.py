"""What the paper does not have. `views` imports `steady`; otherwise none of these files imports another of ours.

    steady      each host as the posterior mean of its own centre: `--steady`
    fixed_gcn   a graph convolution that is never trained: `--model fixed-gcn`
    views       what neighbours are searched in: a model's embeddings as they are, or steady behaviour
    ranks       features scaled by rank, so that heavy tails do not matter
    campaigns   groups of hosts that act alike, by density (HDBSCAN): `--campaigns`
    layout      the day's map: a point in the plane for each host, alike ones near each other
    partitions  how far two groupings agree: adjusted Rand, adjusted mutual information
    subnets     subnet agreement, a yardstick that needs no labels
"""
