import sys

from keras_lrseg.cli import main

sys.exit(main())
