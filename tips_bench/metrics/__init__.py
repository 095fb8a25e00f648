"""Pure accumulators: update, merge, compute.

    spec            MetricSpec: unit and direction
    samples         counts of each sample, merged in any order

By family:

    segmentation    IoU and accuracy of pixels
    boundary_iou    IoU near contours
    matched_iou     IoU after a match of predicted and labeled classes
    points          IoU of points, seen and all
    depth           RMSE, AbsRel, delta and others
    normals         angles in degrees
    classification  top-1 and top-5
    ranks           nearest captions and images, exactly
    retrieval       R@1, R@5 and R@10, both ways
    videos          J and F of objects in videos
    instances       R@1 and mMP@5 over domains
    matches         PCK of keypoints, recall of matches between views
    difficulty      PCK of keypoints by how difficult a pair is
    discovery       CorLoc
    landmarks       average precision, with images that do not count
    recognition     GAP among distractors
"""
