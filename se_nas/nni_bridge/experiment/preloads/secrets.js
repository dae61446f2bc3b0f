// Preloaded by NNI's Node: of its configuration, the training service alone sees the secrets that it refers to. The
// database, the page, the logs and the tuner's command line have the references.
//
// SE_NAS_NNI_SECRETS is a JSON object of each reference, such as "${env:NAME}", with its secret.
"use strict";

const Module = require("node:module");

const secrets = new Map(Object.entries(JSON.parse(process.env.SE_NAS_NNI_SECRETS || "{}")));
delete process.env.SE_NAS_NNI_SECRETS; // the tuner and the trials inherit the rest of the environment

function resolved(value) {
    if (Array.isArray(value)) {
        return value.map(resolved);
    }
    if (typeof value === "object" && value !== null) {
        return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, resolved(part)]));
    }
    return typeof value === "string" && secrets.has(value) ? secrets.get(value) : value;
}

const load = Module._load;
let done = secrets.size === 0;

Module._load = function (request, ...rest) {
    const loaded = load.call(this, request, ...rest);
    if (!done && request.endsWith("/nnimanager")) {
        done = true;
        const manager = loaded.NNIManager.prototype;
        const init = manager.initTrainingService;
        manager.initTrainingService = function (config) {
            return init.call(this, resolved(config));
        };
    }
    return loaded;
};
