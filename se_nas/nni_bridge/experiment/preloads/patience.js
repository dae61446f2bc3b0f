// Preloaded by NNI's Node: a tuner has 120 seconds to connect, where NNI gives up after 10, which importing PyTorch
// on a busy machine can take.
"use strict";

const Module = require("node:module");

const SECONDS = 120;
const load = Module._load;

Module._load = function (request, ...rest) {
    const loaded = load.call(this, request, ...rest);
    if (request.endsWith("/tuner_command_channel") && loaded.getTunerServer) {
        const server = loaded.getTunerServer();
        server.init = () => {
            const failure = new Error(`the tuner did not connect in ${SECONDS} seconds; its log may tell why`);
            setTimeout(() => server.connect.settled || server.connect.reject(failure), SECONDS * 1000);
            return server.connect.promise;
        };
    }
    return loaded;
};
