"""Flax models: the Llama family, and Hugging Face folders in and out."""

from typing import TYPE_CHECKING

from ofmu_jax._lazy import submodules

if TYPE_CHECKING:  # what checkers and editors see
    from ofmu_jax.models import classifier as classifier
    from ofmu_jax.models import huggingface as huggingface
    from ofmu_jax.models import llama as llama
    from ofmu_jax.models import other_formats as other_formats
    from ofmu_jax.models import resnet as resnet
    from ofmu_jax.models import tensor_files as tensor_files
    from ofmu_jax.models import tensor_slices as tensor_slices
    from ofmu_jax.models import tensor_writer as tensor_writer
else:
    __getattr__, __dir__ = submodules(__name__)
