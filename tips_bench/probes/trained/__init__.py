"""Heads that are trained with stochastic gradients.

    loop                 the one training loop: batches by number, checkpoints
    schedules            learning rates and momenta by iteration

Many heads on one pass of the backbone:

    head_sweep           linear heads for all rates at once
    classifier_sweep     the same for whole images
    linear_segmentation  the linear protocols of segmentation
    linear_depth         `linear-bins`
    linear_points        `linear-points`
    linear_classifier    DINOv2's linear evaluation
    cross_entropy        the loss at pixel resolution, in bounded memory

Networks:

    dpt                  `dpt`, for depth and normals
    network_training     a network as a trainee of the loop
    pixel_losses         losses of depth and normals
"""
