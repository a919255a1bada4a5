"""Data sets: where they are found, how they are checked, how they are fetched."""

from retrograde.data._digits import Digits as Digits
from retrograde.data._digits import load_digits as load_digits
from retrograde.data._ecg import ECG_WAVES as ECG_WAVES
from retrograde.data._ecg import Heartbeats as Heartbeats
from retrograde.data._ecg import ecg_folder as ecg_folder
from retrograde.data._ecg import load_ecg as load_ecg
from retrograde.data._errors import DataError as DataError
from retrograde.data._fetch import ECG_MIRRORS as ECG_MIRRORS
from retrograde.data._fetch import MIRRORS as MIRRORS
from retrograde.data._fetch import fetch_ecg as fetch_ecg
from retrograde.data._fetch import fetch_mnist as fetch_mnist
from retrograde.data._mnist import cache_folder as cache_folder
from retrograde.data._mnist import load_mnist as load_mnist
from retrograde.data._mnist import mnist_folder as mnist_folder
from retrograde.data._nmnist import Events as Events
from retrograde.data._nmnist import load_nmnist as load_nmnist
from retrograde.data._nmnist import nmnist_folder as nmnist_folder
from retrograde.data._nmnist import pack_nmnist as pack_nmnist
from retrograde.data._spoken import SpokenClips as SpokenClips
from retrograde.data._spoken import load_spoken_digits as load_spoken_digits
from retrograde.data._spoken import pack_spoken_digits as pack_spoken_digits
from retrograde.data._spoken import spoken_digits_folder as spoken_digits_folder
