// Preloaded by NNI's Node: its servers listen on one address alone, where NNI itself listens on every interface
// of the machine without authentication.
//
// SE_NAS_NNI_HOST is the address. NNI's own tuner and local trials always connect to localhost, so a server of another
// address takes connections on 127.0.0.1 as well.
"use strict";

const net = require("node:net");

const host = process.env.SE_NAS_NNI_HOST;
delete process.env.SE_NAS_NNI_HOST; // the tuner and the trials inherit the rest of the environment
if (!host) {
    throw new Error("SE_NAS_NNI_HOST must be the address to listen on");
}
const takesLocalhost = ["127.0.0.1", "0.0.0.0", "::"].includes(host);
const listen = net.Server.prototype.listen;

/** The options of a call of listen() that binds a TCP port without saying where, else null. */
function unboundPort(args) {
    const first = args[0];
    if (typeof first === "object" && first !== null) {
        return first.port !== undefined && first.host === undefined ? { ...first } : null;
    }
    if (first === undefined || first === null || typeof first === "function") {
        return { port: 0 };
    }
    const isPort = Number.isInteger(Number(first));
    return isPort && typeof args[1] !== "string" ? { port: Number(first) } : null;
}

net.Server.prototype.listen = function (...args) {
    const options = unboundPort(args);
    if (options === null) {
        return listen.apply(this, args);
    }
    if (!takesLocalhost) {
        this.once("listening", () => {
            const twin = net.createServer((socket) => this.emit("connection", socket));
            twin.on("error", (error) => this.emit("error", error));
            listen.call(twin, { port: this.address().port, host: "127.0.0.1" });
            this.once("close", () => twin.close());
        });
    }
    const callbacks = args.filter((argument) => typeof argument === "function");
    return listen.call(this, { ...options, host }, ...callbacks);
};
