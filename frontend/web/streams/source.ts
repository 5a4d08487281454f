// One connection to a stream of server-sent events, which comes back by itself.
//
// The browser resumes a broken connection with Last-Event-ID. What it does not do is done here: try
// again after an answer that is no stream, of a server that starts or is full.

import { addressFrom, placeOf, type Place } from "./place";

export type State = "connecting" | "open" | "reconnecting" | "ended";

export interface Message {
  kind: string;
  data: unknown;
  /** Empty if it has none. */
  id: string;
}

export interface Listener {
  told: (message: Message) => void;
  state: (state: State) => void;
  /** Connected, and not where it was broken off: something may have been missed. */
  begun: () => void;
}

const KINDS = ["job", "worker", "progress", "reset", "log", "metric", "end"];
const FIRST_DELAY = 1_000;
const LONGEST_DELAY = 15_000;

export class Source {
  readonly #address: string;
  readonly #listener: Listener;
  #place: Place | undefined;
  #events: EventSource | undefined;
  #delay = FIRST_DELAY;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #state: State = "connecting";

  /** Connects; of a job's stream `place` says where it begins. */
  constructor(address: string, place: Place | undefined, listener: Listener) {
    this.#address = address;
    this.#place = place;
    this.#listener = listener;
    this.#connect();
  }

  get state(): State {
    return this.#state;
  }

  /** How far it has come. */
  get place(): Place | undefined {
    return this.#place;
  }

  /** Begin anew at an earlier place. */
  goBack(place: Place): void {
    this.#place = place;
    this.#connect();
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#events?.close();
    this.#events = undefined;
  }

  #connect = (): void => {
    this.close();
    const events = new EventSource(addressFrom(this.#address, this.#place));
    this.#events = events;
    let resumes = false;
    events.addEventListener("open", () => {
      this.#delay = FIRST_DELAY;
      this.#set("open");
      if (!resumes) this.#listener.begun();
    });
    events.addEventListener("error", () => {
      this.#set("reconnecting");
      if (events.readyState !== EventSource.CLOSED) return;
      this.#timer = setTimeout(this.#connect, this.#delay * (0.5 + Math.random() / 2));
      this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY);
    });
    for (const kind of KINDS) {
      events.addEventListener(kind, ({ data, lastEventId }) => {
        resumes = lastEventId !== "";
        this.#place = placeOf(lastEventId) ?? this.#place;
        this.#listener.told({ kind, data: JSON.parse(data), id: lastEventId });
      });
    }
  };

  #set(state: State): void {
    this.#state = state;
    this.#listener.state(state);
  }
}
