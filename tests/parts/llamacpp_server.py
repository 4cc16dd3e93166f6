"""Run llama.cpp's own HTTP server in the foreground: `llamacpp_server.py --model FILE --port N`.

The wheel `xllamacpp` carries the server as a library; its surface is that of `llama-server`.
"""

import argparse
import signal

from xllamacpp import CommonParams, Server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", action="append", default=[])
    parser.add_argument("--api-key")
    parser.add_argument("--context", type=int, default=512, help="tokens for one slot")
    parser.add_argument("--slots", type=int, default=2)
    options = parser.parse_args()
    params = CommonParams()
    params.model.path = options.model
    params.hostnames, params.port = ["127.0.0.1"], options.port
    params.n_ctx, params.n_parallel = options.context * options.slots, options.slots
    params.endpoint_props = params.endpoint_slots = True
    params.use_jinja, params.ui, params.cache_ram_mib = True, False, 0
    # Two threads spin on one core where tests share it.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.sampling.temp = 0.0
    if options.alias:
        params.model_alias = set(options.alias)
    if options.api_key:
        params.api_keys = [options.api_key]
    server = Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
