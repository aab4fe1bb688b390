"""Views into a network. Each returns its data first, as a frozen record; drawing is a separate function.

    summary       the layer table: shapes, parameters and how each count comes about, mult-adds
    filters       the weights of a convolution
    feature_maps  what each convolution and pooling makes of one picture
    figures       records drawn as Pillow images

The functions are imported from their modules (`from sightline.visualization.filters import filters`), so that
naming one view loads only what that view needs.
"""
