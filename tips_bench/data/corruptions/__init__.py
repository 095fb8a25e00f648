"""ImageNet-C's corruptions of images of any size, each a function (image_HW3 uint8, strength 1 to 5, generator) -> image_HW3 uint8.

Kinds and constants are those of bethgelab/imagecorruptions c959e65 (imagecorruptions/corruptions.py), ImageNet-C's for images of any
size; hendrycks/robustness 8190fe3 (ImageNet-C/create_c/make_imagenet_c.py), which made the published files, is for 224 pixels. The
registry CORRUPTIONS names them.

noise         gaussian, shot, impulse and speckle noise
blur          defocus, gaussian, glass, motion and zoom blur
weather       snow, fog, spatter
frost         frost, by photographs that are brought when they are needed
digital       brightness, contrast, saturate, elastic transform, pixelate, JPEG compression
"""
