"""One task family per module: joins encoder, reader, probe and metric.

What all share:

    base                   Adapter: splits, a probe, counts and pictures, as every family gives them to an evaluation
    scoring                samples scored one by one, so that a killed run is taken up at the next
    label_maps             a class for each pixel: predicted, counted, drawn
    image_index            a database of whole images in which queries look for their like
    pixel_values           a value for each pixel: the same for depth and normals
    pairs                  pairs of images: their maps, scored one by one

A family each:

    segmentation           label maps from a head of class logits
    zeroshot_segmentation  label maps from the names of classes
    depth                  metres from a head of values
    normals                unit vectors from a head of values
    point_segmentation     classes of points, from features lifted to scans
    classification         one class for an image
    retrieval              images and captions that find each other
    instance_retrieval     images that find others of the same thing
    video_segmentation     masks of objects, carried through videos
    keypoint_matching      points of one image found in another of the same kind of thing
    view_matching          points of one view of a scene found in another
    object_discovery       one box round an object of an image
    recognition            exhibits named by the nearest image, among distractors
    ranked_retrieval       a whole database in the order of likeness: landmarks, places then and now
"""
