// A tab's end of the streams that it shares with the other tabs of the browser.

import type { Place } from "./place";
import type { News, Order } from "./shared";
import type { Listener } from "./source";

/** The built worker beside this script, of the same build: it is part of its address. */
const WORKER = new URL(`stream-worker.js${new URL(import.meta.url).search}`, import.meta.url);

export const canShare = "SharedWorker" in globalThis;

export class SharedPort {
  readonly #port: MessagePort;
  readonly #worker: SharedWorker;

  /** Follows a stream; `failed` is called if there is no sharing after all. */
  constructor(address: string, place: Place | undefined, listener: Listener, failed: () => void) {
    this.#worker = new SharedWorker(WORKER, { name: "dtrain" });
    this.#worker.addEventListener("error", failed);
    this.#port = this.#worker.port;
    this.#port.addEventListener("message", ({ data }: MessageEvent<News>) => {
      if (data.news === "told") listener.told(data.message);
      else if (data.news === "state") listener.state(data.state);
      else listener.begun();
    });
    this.#port.start();
    this.#send({ order: "follow", address: new URL(address, location.href).href, place });
  }

  close(): void {
    this.#send({ order: "leave" });
    this.#port.close();
  }

  #send(order: Order): void {
    this.#port.postMessage(order);
  }
}
