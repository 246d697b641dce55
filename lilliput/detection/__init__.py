"""Object detection by saved encoders: boxes as people have them, a detector on an encoder's maps, average precision.

SSDLite: Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381, section 6.2; SSD: Liu et al., ECCV 2016,
https://arxiv.org/abs/1512.02325. The head, the default boxes and the loss are torchvision's.
"""
