"""What is fitted on frozen features.

    base             Probe: options from a card, a fit that ends in a head
    patch_labels     how much of a patch bears each class
    pixel_targets    a depth or a normal for each pixel: what is learned, how it is scored

Heads:

    linear_head      patch features to class logits
    depth_bins       depth as a mean of bins
    image_heads      class scores of whole images
    network_head     four layers to a map, by a network
    probe3d_decoder  Probe3D's network

    solved/          one optimum: no learning rate, no seed
    trained/         stochastic gradients
    training_free/   nothing is fitted
"""
