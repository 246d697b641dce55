"""torchvision's ResNets, and their plain twins: the same layers without the shortcuts.

He, Zhang, Ren, Sun, CVPR 2016, https://arxiv.org/abs/1512.03385, section 4.1, sets the two side by side. There plain
networks differ in nothing but the sums; here too a projection, which only a shortcut has, goes with its shortcut.
"""

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from lilliput.backbones._backbone import Backbone


def resnet(name: str, *, channels: int, width: float, stem: str, skips: bool = True) -> Backbone:
    """torchvision's network of that name; without `skips` each block gives what its last norm gives, rectified."""
    net = torchvision.models.get_model(name, weights=None)
    net.fc = nn.Identity()
    if not skips:
        for block in [part for part in net.modules() if isinstance(part, BasicBlock | Bottleneck)]:
            block.__class__ = PlainBasicBlock if isinstance(block, BasicBlock) else PlainBottleneck
            block.downsample = None
        name = f"{name} without skips"
    return Backbone(net, stages, channels=channels, width=width, stem=stem, name=name)


def stages(net):
    return [[net.conv1, net.bn1, net.relu], [net.maxpool, net.layer1], [net.layer2], [net.layer3], [net.layer4]]


class PlainBasicBlock(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))


class PlainBottleneck(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)))
