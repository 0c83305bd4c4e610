"""Serve the bucket BUCKET to the other containers, on port 9000."""

import os
import threading

import boto3
from moto.server import ThreadedMotoServer

ThreadedMotoServer(ip_address="0.0.0.0", port=9000, verbose=False).start()  # noqa: S104 - others in the network ask it
boto3.client("s3", endpoint_url="http://localhost:9000").create_bucket(Bucket=os.environ["BUCKET"])
threading.Event().wait()
