"""Django settings, all derived from the typed environment (config.env)."""

import logging
from typing import Any
from urllib.parse import urlparse

import dj_database_url
from csp.constants import NONCE, SELF
from django.urls import reverse_lazy

from config.env import BASE_DIR, environment
from config.logs import logging_settings, structlog_configure

ENV = environment()
PROTOCOLS_DIR = BASE_DIR / "labeling" / "protocols"  # a protocol's folder holds its fragments of the pages

SECRET_KEY = ENV.secret_key()
DEBUG = ENV.DEBUG
ALLOWED_HOSTS = [
    "localhost", "127.0.0.1", "[::1]", ENV.HOST,
    *(host.strip() for host in ENV.PUBLIC_HOSTS.split(",") if host.strip()),
]  # fmt: skip
if ENV.HOST in {"0.0.0.0", "::"}:  # noqa: S104 - a comparison, not a binding
    ALLOWED_HOSTS.append("*")
VAR_DIR = ENV.VAR_DIR

INSTALLED_APPS = [
    "accounts",
    "jobs",
    "corpora",
    "models_zoo",
    "labeling",
    "training",
    "competition",
    "unfold",
    "unfold.contrib.filters",
    "unfold.contrib.simple_history",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "django_structlog",
    "simple_history",
    "csp",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "config.logs.RequestLog",
    "simple_history.middleware.HistoryRequestMiddleware",
    "accounts.middleware.DomainErrorMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates", PROTOCOLS_DIR],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
            ],
        },
    },
]


def _database() -> dict[str, Any]:
    settings: dict[str, Any] = dict(dj_database_url.parse(ENV.database_url))
    if settings["ENGINE"].endswith("sqlite3"):
        settings["OPTIONS"] = {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;",
        }
        # File-backed in tests too: concurrency tests use several connections.
        settings["TEST"] = {"NAME": str(VAR_DIR / "test.sqlite3")}
        # Closing the last connection writes the log back into the database: 15 ms a request.
        settings["CONN_MAX_AGE"] = 60
    else:
        settings["CONN_MAX_AGE"] = 60
        settings["CONN_HEALTH_CHECKS"] = True
    return settings


for _folder in (VAR_DIR, VAR_DIR / "static", VAR_DIR / "media"):
    _folder.mkdir(parents=True, exist_ok=True)
DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = ENV.redis_url
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "accounts.cache.ForgivingRedisCache", "LOCATION": REDIS_URL}
}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "accounts.backends.AccountBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{name}PasswordHasher" for name in ("Scrypt", "PBKDF2")]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "email", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_RATE_LIMITS = {"login_failed": "5/5m/key,20/5m/ip"}
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [
    BASE_DIR / "static",
    *((f"protocols/{page.parent.name}", page) for page in sorted(PROTOCOLS_DIR.glob("*/page"))),
]
WHITENOISE_USE_FINDERS = True
MEDIA_URL = "media/"
MEDIA_ROOT = VAR_DIR / "media"
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
if ENV.STORAGE_URL:
    _storage = urlparse(ENV.STORAGE_URL)
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": _storage.netloc, "location": _storage.path.strip("/")},
    }
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 2**20
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 2**20
FILE_UPLOAD_TEMP_DIR = None

SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30
SESSION_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
if ENV.SECURE:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_SSL_REDIRECT = True
if ENV.TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True

EVENTS_URL = ENV.EVENTS_URL  # None: the page derives it from its own host and EVENTS_PORT
EVENTS_PORT = ENV.events_port
CONTENT_SECURITY_POLICY = {
    "EXCLUDE_URL_PREFIXES": ("/admin/",),  # the admin's Alpine.js evaluates expressions
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, "'unsafe-inline'"],
        "img-src": [SELF, "data:", "blob:"],
        "connect-src": [SELF, EVENTS_URL or f"*:{EVENTS_PORT}"],
        "frame-ancestors": ["'none'"],
        "form-action": [SELF],
        "base-uri": [SELF],
    },
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.permissions.ScopedPermission"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PAGINATION_CLASS": "accounts.pagination.NewestFirst",
    "PAGE_SIZE": 50,
    "DEFAULT_THROTTLE_CLASSES": [
        "rest_framework.throttling.UserRateThrottle",
        "rest_framework.throttling.AnonRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {"user": "1200/min", "anon": "60/min"},
    "EXCEPTION_HANDLER": "accounts.errors.api_exception_handler",
    "DEFAULT_VERSIONING_CLASS": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Falsify API",
    "VERSION": "1",
    "DESCRIPTION": "Corpora, models, competitions, campaigns and leaderboards of Falsify.",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "COMPONENT_SPLIT_REQUEST": True,
}

CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://") if REDIS_URL.startswith("unix://") else REDIS_URL
# A page does not wait for a broker that is away: the message is sent later (jobs.services.message_send).
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "max_retries": 1,
    "interval_start": 0,
    "interval_max": 0.2,
    "socket_connect_timeout": 2,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]

JOBS_HEARTBEAT_SECONDS = ENV.JOBS_HEARTBEAT_SECONDS
JOBS_STALE_SECONDS = ENV.JOBS_STALE_SECONDS
JOBS_SYNC_SECONDS = 1.0  # how often progress is written and a cancel noticed
JOBS_SEND_MESSAGES = JOBS_EVENTS = True

ADMIN_MENU = {
    "Competitions": {"Competitions": "competition_competition", "Rounds": "competition_round",
                     "Snapshots": "competition_snapshot"},
    "Labelling": {"Campaigns": "labeling_campaign", "Invites": "labeling_invite", "Judgements": "labeling_judgement",
                  "Verdicts": "labeling_verdict", "Exclusions": "labeling_exclusion"},
    "Zoo": {"Models": "models_zoo_model", "Versions": "models_zoo_version", "Scores": "models_zoo_scores"},
    "Training": {"Runs": "training_run", "Labelled sets": "training_labelledset"},
    "Corpora": {"Corpora": "corpora_corpus", "Taxonomies": "corpora_taxonomy", "Items": "corpora_item"},
    "Background": {"Jobs": "jobs_job"},
    "People": {"Accounts": "accounts_user", "Memberships": "accounts_membership", "API tokens": "accounts_apitoken"},
}  # fmt: skip
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Falsify",
    "SITE_HEADER": "Falsify",
    "SITE_URL": "/",
    "SHOW_HISTORY": True,
    "COLORS": {  # the site's accent
        "primary": {
            "50": "oklch(97% .014 264)", "100": "oklch(93% .032 264)", "200": "oklch(88% .059 264)",
            "300": "oklch(81% .105 264)", "400": "oklch(71% .15 264)", "500": "oklch(62% .18 264)",
            "600": "oklch(50% .19 264)", "700": "oklch(45% .18 264)", "800": "oklch(40% .16 264)",
            "900": "oklch(36% .13 264)", "950": "oklch(28% .09 264)",
        }
    },
    "SIDEBAR": {
        "navigation": [
            {
                "title": title,
                "items": [
                    {"title": name, "link": reverse_lazy(f"admin:{model}_changelist")}
                    for name, model in entries.items()
                ],
            }
            for title, entries in ADMIN_MENU.items()
        ]
    },
}  # fmt: skip
UPLOAD_LIMIT_BYTES = ENV.UPLOAD_LIMIT_MB * 2**20
PIXEL_LIMIT = ENV.PIXEL_LIMIT
IMPORT_ROOTS = [root.strip() for root in ENV.IMPORT_ROOTS.split(",") if root.strip()]

LOG_LEVEL = ENV.LOG_LEVEL
LOGGING = logging_settings(ENV.LOG_LEVEL, ENV.LOG_FORMAT)
structlog_configure(ENV.LOG_LEVEL, ENV.LOG_FORMAT)
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG  # one line per request: when it is over
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False  # addresses of annotators are nobody's business
