"""The settings of this server. Environment variables of the same names go before them.

What is None has its default. Paths are relative to this folder.
"""

# Signs the sessions of browsers. Default: made at the first start and kept in data/secrets.json.
SECRET_KEY = None

# Where jobs, logs and metrics are kept: sqlite:///<file> or postgresql://<user>:<password>@<host>/<name>.
# Default: sqlite:///data/dtrain.db
DATABASE_URL = None

# The token with which a worker comes for the first time: `token` in its config.json.
# Default: made at the first start, kept in data/secrets.json, shown at every start.
WORKER_SHARED_TOKEN = None

# What jobs leave: artifacts and the logs of ended jobs. Default: data/uploads
UPLOAD_FOLDER = None

# The bundles that people hand in. Default: data/bundles
JOB_BUNDLES_FOLDER = None

# The address to listen on. With 127.0.0.1, the default, only this machine reaches the server, and
# no token is asked for. 0.0.0.0 opens it to the network; the access token is then asked for.
DTRAIN_HOST = None

# Default: 5000
DTRAIN_PORT = None

# What browsers show on the login page and programs in the header `Authorization: Bearer …`, at
# least 16 characters. Default: made at the first start, shown where it is asked for. If it is set
# here, it is asked for on this machine as well.
DTRAIN_ACCESS_TOKEN = None

# The address by which others reach the server, where that is another than its own host and port:
# "https://dtrain.example". Join lines say it; with https, cookies go by TLS alone.
DTRAIN_PUBLIC_URL = None

# Names by which the server is called beside its own, for example behind a proxy: ["dtrain.example"]
DTRAIN_ALLOWED_HOSTS = None

# Addresses or networks of proxies whose X-Forwarded-For, -Proto and -Host are believed:
# ["127.0.0.1", "10.0.0.0/24"]. Default: none
DTRAIN_TRUSTED_PROXIES = None

# The server's own TLS: the certificate with its chain, and its key, both as PEM files.
DTRAIN_TLS_CERTIFICATE = None
DTRAIN_TLS_KEY = None

# The largest bundle as a ZIP and unpacked, the most files in it, the largest artifact; in units
# of 1024² bytes. Defaults: 10240, 51200, 100000, 10240
DTRAIN_MAX_UPLOAD_MB = None
DTRAIN_MAX_UNPACKED_MB = None
DTRAIN_MAX_BUNDLE_FILES = None
DTRAIN_MAX_ARTIFACT_MB = None

# The largest checkpoint of a job, in the same units, and for how many days the checkpoints of jobs
# are kept that have failed or were cancelled. Defaults: 10240, 14
DTRAIN_MAX_CHECKPOINT_MB = None
DTRAIN_KEEP_CHECKPOINTS_DAYS = None

# Polls of workers and live streams that may be open at once; each keeps a thread. Defaults: 1000
DTRAIN_MAX_HELD_POLLS = None
DTRAIN_MAX_STREAMS = None

# Writes every request to the log.
DTRAIN_DEBUG = False
