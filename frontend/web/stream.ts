// A stream of the page: shared with the other tabs of the browser, and going on by itself.
//
// Where tabs cannot share, one that is hidden gives its connection up, for a browser has only six to
// a host. One that sleeps does so in any case; what it misses is told when it goes on.

import { canShare, SharedPort } from "./streams/port";
import { placeOf, type Place } from "./streams/place";
import { Source, type Listener, type Message, type State } from "./streams/source";

export type { State };

export interface Options {
  address: string;
  /** Of a job's stream: how far the page goes, to begin behind it. */
  from?: () => Place;
  /** What to do with the data of each kind of event. */
  handlers: Record<string, (data: unknown) => void>;
  /** Called after each beginning that did not resume the one before. */
  begun?: () => void;
}

let shares = canShare;

export class Stream {
  #connection: SharedPort | Source | undefined;
  #place: Place | undefined;
  #wanted = false;
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  start(): void {
    this.#wanted = true;
    for (const [target, event, work] of this.#occasions) target.addEventListener(event, work);
    this.#goOn();
  }

  stop(state?: State): void {
    this.#wanted = false;
    for (const [target, event, work] of this.#occasions) target.removeEventListener(event, work);
    this.#disconnect();
    if (state) announce(state);
  }

  get #occasions(): [EventTarget, string, () => void][] {
    return [
      [document, "visibilitychange", this.#followVisibility],
      [document, "freeze", this.#disconnect],
      [document, "resume", this.#goOn],
      [window, "pagehide", this.#disconnect],
      [window, "pageshow", this.#goOn],
    ];
  }

  #followVisibility = (): void => {
    if (document.hidden && !shares) this.#disconnect();
    else this.#goOn();
  };

  #goOn = (): void => {
    if (!this.#wanted || this.#connection || (document.hidden && !shares)) return;
    const { address, from } = this.#options;
    const place = from && (this.#place ?? from());
    if (!shares) this.#connection = new Source(address, place, this.#listener);
    else this.#connection = new SharedPort(address, place, this.#listener, this.#shareNoMore);
  };

  #disconnect = (): void => {
    this.#connection?.close();
    this.#connection = undefined;
  };

  #shareNoMore = (): void => {
    shares = false;
    this.#disconnect();
    this.#goOn();
  };

  #listener: Listener = {
    told: ({ kind, data, id }: Message) => {
      this.#place = placeOf(id) ?? this.#place;
      this.#options.handlers[kind]?.(data);
    },
    state: announce,
    begun: () => this.#options.begun?.(),
  };
}

function announce(state: State): void {
  document.dispatchEvent(new CustomEvent<State>("dtrain:connection", { detail: state }));
}
