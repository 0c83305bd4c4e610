"""The floor: Flask routes that read the same JSON and do nothing with it.

This is the cost of Flask and gunicorn alone; whatever our service needs beyond it is our own.
"""

import orjson
from flask import Flask, Response, jsonify, request

application = Flask(__name__)


@application.get("/ready")
def ready() -> Response:
    """Say that the process is up."""
    return jsonify({"status": "ready"})


@application.post("/flask")
def flask() -> Response:
    """Flask's own JSON, in and out: the floor that the target is defined against."""
    request.get_json()
    return jsonify({"result": [0], "probability": [0.5]})


@application.post("/orjson")
def fast() -> Response:
    """The same with orjson and a plain Response: a harder floor."""
    orjson.loads(request.get_data())
    return Response(orjson.dumps({"result": [0], "probability": [0.5]}), mimetype="application/json")
