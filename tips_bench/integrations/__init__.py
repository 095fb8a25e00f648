"""Encoders in the code of other projects.

mmseg_backbone  an encoder as a frozen backbone of an mmsegmentation config
"""
