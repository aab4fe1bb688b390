"""CLIP's image tower as a classifier: what a zero-shot classifier is kept as, and what is fine-tuned.

    Radford et al.: Learning Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv 2103.00020,
        section 3.1.2

Logits of CLIP are cosines of a picture with sentences, times a learned scale. With the sentences fixed, their
embeddings are the weights of a linear layer behind the picture's normalised one: a classifier like any other.

The normalised embedding is multiplied by the root of its length, so that its numbers are of size one, as a linear
layer's start and the usual learning rates expect; `fold` takes that into account.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.checkpointing import set_grad_checkpointing
from sightline.models.clip_resnet import ModifiedResNet
from sightline.models.clip_vit import VisionTransformer
from sightline.models.protocol import FeatureInfo, linear_head


class ImageClassifier(nn.Module):
    """An image tower, the L2 norm, one linear layer. It speaks timm's protocol.

    quick_gelu: what the towers were built with; kept to be compared with what weights need.
    """

    def __init__(
        self,
        visual: VisionTransformer | ModifiedResNet,
        num_classes: int,
        in_chans: int,
        quick_gelu: bool,
    ) -> None:
        super().__init__()
        self.quick_gelu = quick_gelu
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features, self.head_hidden_size = visual.num_features, visual.embed_dim
        self.num_prefix_tokens = visual.num_prefix_tokens
        self.img_size = visual.img_size
        self.visual = visual
        self.head = linear_head(visual.embed_dim, num_classes)
        self.feature_info = [
            FeatureInfo(num_chs=i["num_chs"], reduction=i["reduction"], module=f"visual.{i['module']}")
            for i in visual.feature_info
        ]
        positions = "positional_embedding" if visual.num_prefix_tokens else "attnpool.positional_embedding"
        self.position_grids = {f"visual.{positions}": visual.grid_size}

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> the tower's tokens (N, T, num_features), or its map (N, num_features, h, w)."""
        return self.visual(x, pool=False)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """-> (N, num_classes); with `pre_logits` the embedding (N, embed_dim), of length sqrt(embed_dim)."""
        x = F.normalize(self.visual.pool(x), dim=-1) * self.head_hidden_size**0.5
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes); without classes, embeddings of length sqrt(embed_dim)."""
        return self.forward_head(self.forward_features(x))

    def fold(self, texts: Tensor, scale: float) -> None:
        """Make the head the one whose logits are `scale` times the cosines with `texts` (num_classes, embed_dim).

        texts: of length one. In place; the head has a class for each of them afterwards.
        """
        self.reset_classifier(len(texts))
        assert isinstance(self.head, nn.Linear)
        with torch.no_grad():
            self.head.weight.copy_(texts * (scale / self.head_hidden_size**0.5))
            self.head.bias.zero_()

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        self.num_classes = num_classes
        like = self.visual.conv1.weight
        self.head = linear_head(self.head_hidden_size, num_classes).to(like.device, like.dtype)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are places rather than weights."""
        return {f"visual.{name}" for name in self.visual.no_weight_decay()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training keeps only each block's input and computes the rest again on the way back."""
        set_grad_checkpointing(self, enable)


def convert_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a whole CLIP, OpenAI's or open_clip's, without what only its text tower needs."""
    if "visual.conv1.weight" not in state:
        return state
    return {key: value for key, value in state.items() if key.startswith(("visual.", "head."))}
