"""The official chart of NATS (`nats` 2.14.2), as far as our values go: which keys it knows, and the configuration of
the server that it makes of them. Written down from the chart's documentation and templates; `...` is any content.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

Values = dict[str, Any]

_CHANGES: Final = {"merge": ..., "patch": ...}
_IMAGE: Final = {"repository": ..., "tag": ..., "pullPolicy": ..., "registry": ..., "digest": ..., "fullImageName": ...}
_TLS: Final = {"enabled": ..., "secretName": ..., "dir": ..., "cert": ..., "key": ..., **_CHANGES}
_PVC: Final = {"enabled": ..., "size": ..., "storageClassName": ..., "name": ..., **_CHANGES}
_NAMED: Final = {"name": ..., **_CHANGES}

KNOWN: Final[Values] = {
    "fullnameOverride": ...,
    "tlsCA": {"enabled": ..., "configMapName": ..., "secretName": ..., "dir": ..., "key": ...},
    "config": {
        "cluster": {
            "enabled": ..., "port": ..., "replicas": ..., "noAdvertise": ..., "routeURLs": ..., "tls": _TLS, **_CHANGES,
        },
        "jetstream": {
            "enabled": ...,
            "fileStore": {"enabled": ..., "dir": ..., "maxSize": ..., "pvc": _PVC},
            "memoryStore": {"enabled": ..., "maxSize": ...},
            **_CHANGES,
        },
        "nats": {"port": ..., "tls": _TLS},
        "leafnodes": {"enabled": ..., "port": ..., "tls": _TLS, **_CHANGES},
        "monitor": {"enabled": ..., "port": ..., "tls": {"enabled": ...}},
        "resolver": {"enabled": ..., "dir": ..., "pvc": _PVC, **_CHANGES},
        "serverNamePrefix": ...,
        **_CHANGES,
    },
    "container": {"image": _IMAGE, "ports": ..., "env": ..., "resources": ..., **_CHANGES},
    "reloader": {"enabled": ..., "image": _IMAGE, "env": ..., "natsVolumeMountPrefixes": ..., **_CHANGES},
    "promExporter": {"enabled": ..., "image": _IMAGE, "port": ..., "env": ..., **_CHANGES},
    "service": {"enabled": ..., "ports": ..., "name": ..., **_CHANGES},
    "statefulSet": _NAMED,
    "podTemplate": {"configChecksumAnnotation": ..., "topologySpreadConstraints": ..., **_CHANGES},
    "headlessService": _NAMED,
    "configMap": _NAMED,
    "podDisruptionBudget": {"enabled": ..., **_NAMED},
    "serviceAccount": {"enabled": ..., **_NAMED},
    "natsBox": {"enabled": ...},
}  # fmt: skip


def unknown(values: Any, known: Any = KNOWN, at: str = "") -> list[str]:
    """Paths of keys that the chart would pass over in silence."""
    if known is ...:
        return []
    if not isinstance(values, dict):
        return [at]
    found = [f"{at}.{key}" for key in values if key not in known]
    return found + [path for key in values if key in known for path in unknown(values[key], known[key], f"{at}.{key}")]


def server_conf(values: Values, pod: str) -> str:
    """``nats.conf`` as the chart writes it for one pod. Raises `KeyError` for what is not stated."""
    config, name = values["config"], values["fullnameOverride"]
    cluster, jetstream, merged = config["cluster"], config["jetstream"], dict(config["merge"])
    include = merged.pop("00$include")
    store = jetstream["fileStore"]
    hosts = [f"{name}-{n}.{values['headlessService']['name']}" for n in range(cluster["replicas"])]
    made = {
        "server_name": pod,
        "port": 4222,
        "tls": _tls(config["nats"]["tls"], values),
        "cluster": {
            "name": name,
            "port": 6222,
            "no_advertise": True,
            "routes": [f"tls://{host}:6222" for host in hosts],
            "tls": _tls(cluster["tls"], values),
        },
        "http_port": config["monitor"]["port"],
        "jetstream": {
            "max_memory_store": f"<< {jetstream['memoryStore']['maxSize']} >>",
            "store_dir": store["dir"],
            "max_file_store": f"<< {store['maxSize']} >>",
            **jetstream["merge"],
        },
        **merged,
    }
    text = re.sub(r'"<< (.*?) >>"', r"\1", json.dumps(made, indent=2))
    return f"include {include};\n" + text.strip().removeprefix("{").removesuffix("}")


def _tls(stated: Values, values: Values) -> Values:
    place, authority = stated["dir"], values["tlsCA"]
    return {
        "cert_file": f"{place}/{stated['cert']}",
        "key_file": f"{place}/{stated['key']}",
        "ca_file": f"{authority['dir']}/{authority['key']}",
        **stated["merge"],
    }
