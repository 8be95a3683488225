from bertpipe.api.functions import evaluate as evaluate
from bertpipe.api.functions import load_model as load_model
from bertpipe.api.functions import load_params as load_params
from bertpipe.api.functions import plot as plot
from bertpipe.api.functions import prepare as prepare
from bertpipe.api.functions import read_data as read_data
from bertpipe.api.functions import train as train

__version__: str
