"""A program that marks the bright voxels of an image: python bright.py IMAGE LABELS."""

import sys

import nibabel
import numpy as np

if __name__ == "__main__":
    image = nibabel.Nifti1Image.from_filename(sys.argv[1])
    labels = (np.asarray(image.dataobj) > 50).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels, image.affine), sys.argv[2])
