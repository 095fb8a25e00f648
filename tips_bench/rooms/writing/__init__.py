"""Rooms on disk, in the layouts of real data sets.

layouts       where each layout keeps its files
layout_table  every layout by its name
writers       sets drawn by several processes, whole or not at all
dense_sets    as NYU, KITTI and NAVI
scannet       as ScanNet
caption_sets  as COCO, Flickr30k and DOCCI
boxes         as VOC with boxes round furniture
class_crops   as folders of classes, and for retrieval
clips         as videos with masks of objects
pair_sets     as SPair-71k, PF-PASCAL and the pairs of ScanNet and NAVI
retrieval_sets  as Revisited Oxford, AmsterTime and Google Landmarks v2
close_ups     as shards of close-ups
packing       tar shards, the same bytes always
"""
