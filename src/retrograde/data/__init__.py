"""Data sets: where they are found, how they are checked, how they are fetched."""

from retrograde.data._digits import Digits as Digits
from retrograde.data._digits import load_digits as load_digits
from retrograde.data._errors import DataError as DataError
from retrograde.data._fetch import MIRRORS as MIRRORS
from retrograde.data._fetch import fetch_mnist as fetch_mnist
from retrograde.data._mnist import cache_folder as cache_folder
from retrograde.data._mnist import load_mnist as load_mnist
from retrograde.data._mnist import mnist_folder as mnist_folder
