// Preloaded by NNI's Node: its servers answer their own page and programs, and no page of somebody else's that a
// browser on this machine or network happens to show. NNI itself answers everybody.
//
// - Host must be this machine, or a page whose name somebody lets lead here (DNS rebinding) is one with ours. Its port
//   does not matter, as an SSH tunnel begins at another.
// - Origin, which a browser adds for every page but the one it shows itself, must be the same as Host.
// - A body must be JSON, which a foreign page may not send unasked.
//
// SE_NAS_NNI_NAMES is a JSON list of the names that Host may be beside localhost; with "*" in it any address too: a page
// behind a bare address cannot be anybody else's.
"use strict";

const http = require("node:http");
const net = require("node:net");

const names = new Set(["localhost", "127.0.0.1", "::1", ...JSON.parse(process.env.SE_NAS_NNI_NAMES || "[]")]);
delete process.env.SE_NAS_NNI_NAMES; // the tuner and the trials inherit the rest of the environment
const anyAddress = names.delete("*");

function isAllowed(name) {
    return names.has(name) || (anyAddress && net.isIP(name) !== 0);
}

/** Why a request is refused, as [status, words]; null where it is not. */
function refusal(request) {
    const { host, origin } = request.headers;
    const parts = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]+))(?::\d+)?$/i.exec(host ?? "");
    const name = parts && (parts[1] ?? parts[2]).toLowerCase();
    if (!name || !isAllowed(name)) {
        return [403, `Host must be localhost or what se-nas launch --host names, but got ${host ?? "none"}`];
    }
    if (origin !== undefined && origin.toLowerCase() !== `http://${host.toLowerCase()}`) {
        return [403, `Origin must be http://${host}, but got ${origin}`];
    }
    const { "content-type": type, "content-length": length, "transfer-encoding": encoding } = request.headers;
    const hasBody = encoding !== undefined || Number(length ?? 0) !== 0;
    if (hasBody && !/^application\/json\s*(;|$)/i.test(type ?? "")) {
        return [415, `a body must be application/json, but got ${type ?? "none"}`];
    }
    return null;
}

const emit = http.Server.prototype.emit;

http.Server.prototype.emit = function (event, ...args) {
    const isRequest = ["request", "checkContinue", "checkExpectation"].includes(event);
    if (!isRequest && !["upgrade", "connect"].includes(event)) {
        return emit.call(this, event, ...args);
    }
    const refused = refusal(args[0]);
    if (refused === null) {
        return emit.call(this, event, ...args);
    }
    const [status, words] = refused;
    const body = JSON.stringify({ error: words.slice(0, 300) }) + "\n";
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), Connection: "close" };
    if (isRequest) {
        args[1].writeHead(status, headers).end(body);
        return true;
    }
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    args[1].end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`);
    return true;
};
