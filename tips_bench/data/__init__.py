"""Readers of on-disk layouts, transforms, download, checks.

The contract and what readers share:

    base              Reader: samples with stable ids, and what each family's readers add
    videos            the same for clips with masks of objects
    scans             the same for labelled point clouds with their frames
    pairs             the same for pairs of images
    image_files       readers whose samples are one image file each
    label_maps        an image and a label map each; stored ids to classes
    pixel_values      an image and a map of measured values each
    contents          hashes of what files hold, kept in an index
    croissant         the data of a task, described for other programs
    dataset_files     which files a set has, and errors that name what is missing
    split_lists       split files of image, depth map and focal length
    images            image and label files as arrays, decoded and resized
    camera_geometry   normals from depth, and pinhole cameras
    view_geometry     angles between views, and errors of matches
    integrity         files that do not hold what their header promises
    plain_pickle      pickles of plain data, read without running them
    matlab, ply, sens  file formats: MATLAB version 5, PLY, ScanNet's frames

Readers, by family:

    segmentation      ADE20K, VOC, Pascal Context, Cityscapes, COCO-Stuff, plain folders
    nyu, kitti, navi  depth
    nyu_normals       surface normals of NYU
    nyu_geonet        NYU as Probe3D trains and tests on it
    value_folders     depth or normals in plain folders
    scannet           ScanNet's scans
    scan_frames       where their frames lie, in each layout
    imagefolder       a folder for each class, and ImageNet
    boxes             VOC and COCO20k, boxes round objects
    uned              UnED, instances of eight domains
    spair, pf_pascal, ap10k  pairs of images with keypoints
    navi_pairs, scannet_pairs       pairs of views with depth and poses
    revisited         Revisited Oxford and Paris, landmarks
    amstertime        AmsterTime, places then and now
    gldv2             Google Landmarks v2, landmarks in a large index
    met               the Met dataset, exhibits among distractors
    captions          COCO, Flickr30k, DOCCI
    caption_files     the files that list their captions
    video_sets        DAVIS, YouTube-VOS, MOSE

Which samples are used:

    split             the samples of an evaluation, and the parts that a fit makes of them
    completeness      whether a split has the published number of samples
    validation_split  a held-out part, chosen by hash
    varied            images corrupted or turned, and a share of the training images

    corruptions/      ImageNet-C's corruptions
    checks/           every file of a set looked at before an evaluation
    crops/            random training crops, by number
    download/         fetched and unpacked
"""
