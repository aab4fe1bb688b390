"""CLIP: pictures and sentences in one space, learned from 400 million pairs of them.

    Radford, Kim, Hallacy, Ramesh, Goh, Agarwal, Sastry, Askell, Mishkin, Clark, Krueger, Sutskever: Learning
        Transferable Visual Models From Natural Language Supervision. ICML 2021, arXiv 2103.00020

What was new: no list of classes. An image tower and a text tower are trained together so that a picture's embedding
is closer to its own caption's than to the captions of the rest of the batch. A classifier is then a list of
sentences, "a photo of a dog.", and needs no training picture at all.

The image tower is a Vision Transformer (`clip_vit.py`) or a residual network (`clip_resnet.py`). The text tower is a
transformer in which a token sees only those before it; what stands at the end token is the sentence's embedding. So
what follows the end token changes nothing, and is not computed here: a sentence of ten tokens costs ten, not 77.

QuickGELU or the exact GELU: `quick_gelu`, True for OpenAI's weights. In the residual networks it concerns the text
tower alone. A published set of weights says which one it wants (`PublishedWeights.arguments`).

Parameter names and shapes are open_clip's; OpenAI's are the same but for three numbers beside the weights, which
`convert_state_dict` leaves out.
"""

# In PyTorch's stubs the call of a module is Any.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.models.clip_classifier import ImageClassifier
from sightline.models.clip_resnet import ModifiedResNet
from sightline.models.clip_vit import Transformer, VisionTransformer
from sightline.models.protocol import image_size, require

CONTEXT_LENGTH, VOCABULARY = 77, 49408


class CLIP(ImageClassifier):
    """An image tower, a text tower, and the logarithm of the scale between cosines and logits.

    embed_dim: numbers in an embedding of either. img_size: side or (height, width); `native_size` if it is None.
    vision_layers: blocks of the Vision Transformer; or four numbers, the blocks in each stage of the residual network,
        which has no `patch_size`. vision_width: of the transformer's tokens, or channels of the residual network's
        stem. head_width: of one head of attention in the image tower.
    context_length: tokens in a sentence, start and end included. vocab_size: the largest token, the end's, is one
        less. text_width, text_heads, text_layers: of the text tower.
    quick_gelu: see the module.

    As an image network (timm's protocol) it gives normalised embeddings, see `ImageClassifier`.
    Raises SightlineError where the arguments make no network.
    """

    def __init__(
        self,
        *,
        embed_dim: int = 512,
        vision_layers: int | Sequence[int] = 12,
        vision_width: int = 768,
        head_width: int = 64,
        patch_size: int = 32,
        context_length: int = CONTEXT_LENGTH,
        vocab_size: int = VOCABULARY,
        text_width: int = 512,
        text_heads: int = 8,
        text_layers: int = 12,
        quick_gelu: bool = True,
        native_size: int = 224,
        img_size: int | Sequence[int] | None = None,
        in_chans: int = 3,
    ) -> None:
        size = native_size if img_size is None else img_size
        tower = image_tower(
            embed_dim, vision_layers, vision_width, head_width, patch_size, quick_gelu, size, in_chans
        )
        super().__init__(tower, 0, in_chans, quick_gelu)
        require(
            min(context_length, vocab_size) >= 3, "a context and a vocabulary have at least three tokens."
        )
        self.context_length, self.vocab_size = context_length, vocab_size
        self.token_embedding = nn.Embedding(vocab_size, text_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, text_width))
        self.transformer = Transformer(
            text_width, text_layers, text_heads, causal=True, quick_gelu=quick_gelu
        )
        self.ln_final = nn.LayerNorm(text_width)
        self.text_projection = nn.Parameter(torch.empty(text_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=text_width**-0.5)

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """(N, in_chans, H, W) -> (N, embed_dim), of length one with `normalize`."""
        features = self.visual(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Tokens (N, up to context_length), whole numbers -> (N, embed_dim), of length one with `normalize`.

        The end token is the largest of a row; what follows it does not matter.
        """
        end = text.argmax(dim=-1)
        if not torch.compiler.is_compiling() and text.device.type != "meta" and len(text):
            text = text[:, : int(end.max()) + 1]
        x = self.token_embedding(text)
        x = x + self.positional_embedding[: text.shape[1]].to(x.dtype)
        x = self.transformer(x)
        x = x[torch.arange(len(x), device=x.device), end]  # N, text_width
        x = self.ln_final(x) @ self.text_projection
        return F.normalize(x, dim=-1) if normalize else x

    @overload
    def forward(self, image: Tensor, text: None = None) -> Tensor: ...
    @overload
    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...
    def forward(self, image: Tensor, text: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """-> image and text embeddings of length one (N, embed_dim), (M, embed_dim), and the scale of logits.

        The logits are scale * image @ text.T. Of pictures alone, what an image network gives.
        """
        if text is None:
            return super().forward(image)
        return self.encode_image(image, True), self.encode_text(text, True), self.logit_scale.exp()

    def no_weight_decay(self) -> set[str]:
        """Parameters that are places rather than weights."""
        return super().no_weight_decay() | {"positional_embedding"}


def image_tower(
    embed_dim: int,
    vision_layers: int | Sequence[int],
    vision_width: int,
    head_width: int,
    patch_size: int,
    quick_gelu: bool,
    img_size: int | Sequence[int],
    in_chans: int,
) -> VisionTransformer | ModifiedResNet:
    """The image tower of a CLIP with these arguments."""
    require(embed_dim >= 1, "embed_dim is at least 1.")
    if isinstance(vision_layers, int):
        size = image_size(img_size, 0, minimum=patch_size)
        return VisionTransformer(
            size, patch_size, vision_width, vision_layers, head_width, embed_dim, in_chans, quick_gelu
        )
    size = image_size(img_size, 0, minimum=32)
    return ModifiedResNet(size, vision_width, vision_layers, head_width, embed_dim, in_chans)


def convert_state_dict(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` of OpenAI's CLIP under the names used here; any other one is returned as it is.

    Beside the weights OpenAI keeps three numbers of the configuration, and a file of open_clip's may hold the mask
    that keeps tokens from seeing later ones.
    """
    beside = ("input_resolution", "context_length", "vocab_size", "attn_mask")
    if "visual.conv1.weight" not in state:
        return state
    return {key: value for key, value in state.items() if key not in beside}


def clip(
    *,
    embed_dim: int = 512,
    vision_layers: int | Sequence[int] = 12,
    vision_width: int = 768,
    head_width: int = 64,
    patch_size: int = 32,
    context_length: int = CONTEXT_LENGTH,
    vocab_size: int = VOCABULARY,
    text_width: int = 512,
    text_heads: int = 8,
    text_layers: int = 12,
    quick_gelu: bool = True,
    native_size: int = 224,
    num_classes: int = 0,
    in_chans: int = 3,
    img_size: int | Sequence[int] | None = None,
) -> ImageClassifier:
    """Both towers where no classes are asked for; else the image tower with a classifier, and no text tower."""
    if num_classes > 0:
        size = native_size if img_size is None else img_size
        tower = image_tower(
            embed_dim, vision_layers, vision_width, head_width, patch_size, quick_gelu, size, in_chans
        )
        return ImageClassifier(tower, num_classes, in_chans, quick_gelu)
    return CLIP(
        embed_dim=embed_dim,
        vision_layers=vision_layers,
        vision_width=vision_width,
        head_width=head_width,
        patch_size=patch_size,
        context_length=context_length,
        vocab_size=vocab_size,
        text_width=text_width,
        text_heads=text_heads,
        text_layers=text_layers,
        quick_gelu=quick_gelu,
        native_size=native_size,
        img_size=img_size,
        in_chans=in_chans,
    )


resnet = partial(clip, vision_width=64)
base = partial(clip, vision_width=768)
large = partial(
    clip, embed_dim=768, vision_layers=24, vision_width=1024, patch_size=14, text_width=768, text_heads=12
)

VARIANTS: dict[str, Callable[..., ImageClassifier]] = {
    "clip_rn50": partial(resnet, embed_dim=1024, vision_layers=(3, 4, 6, 3)),
    "clip_rn101": partial(resnet, embed_dim=512, vision_layers=(3, 4, 23, 3)),
    # The next three are EfficientNet's compound scaling: wider, deeper and larger, about 4, 16 and 64 times RN50.
    "clip_rn50x4": partial(
        clip,
        embed_dim=640,
        vision_layers=(4, 6, 10, 6),
        vision_width=80,
        text_width=640,
        text_heads=10,
        native_size=288,
    ),
    "clip_rn50x16": partial(
        clip,
        embed_dim=768,
        vision_layers=(6, 8, 18, 8),
        vision_width=96,
        text_width=768,
        text_heads=12,
        native_size=384,
    ),
    "clip_rn50x64": partial(
        clip,
        embed_dim=1024,
        vision_layers=(3, 15, 36, 10),
        vision_width=128,
        text_width=1024,
        text_heads=16,
        native_size=448,
    ),
    "clip_vit_base_patch32": partial(base, patch_size=32),
    "clip_vit_base_patch16": partial(base, patch_size=16),
    "clip_vit_large_patch14": large,
    "clip_vit_large_patch14_336": partial(large, native_size=336),
    # Not in the paper: for training on a few thousand pairs, with a vocabulary of their own.
    "clip_small": partial(
        clip,
        embed_dim=128,
        vision_layers=(1, 1, 1, 1),
        vision_width=32,
        context_length=32,
        vocab_size=1024,
        text_width=128,
        text_heads=4,
        text_layers=1,
        quick_gelu=False,
        native_size=64,
    ),
}
