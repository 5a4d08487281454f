// How far a follower of a job has come; the ids of a job's events are `<event>.<attempt>.<offset>.<seq>`.

export interface Place {
  /** 0 for the latest, whichever that is. */
  attempt: number;
  /** Bytes of the attempt's log. */
  offset: number;
  /** PROGRESS records. */
  seq: number;
}

/** The place behind an event; undefined for an event of another stream. */
export function placeOf(id: string): Place | undefined {
  const [, attempt, offset, seq, ...more] = id.split(".").map(Number);
  if (attempt === undefined || offset === undefined || seq === undefined || more.length) return undefined;
  return { attempt, offset, seq };
}

/** Where a stream begins that is to bring what follows a place. */
export function addressFrom(address: string, place: Place | undefined): string {
  if (!place) return address;
  const query = new URLSearchParams({ offset: String(place.offset), seq: String(place.seq) });
  if (place.attempt) query.set("attempt", String(place.attempt));
  return `${address}?${query}`;
}

/** Whether what follows one place of an attempt contains what follows another one of it. */
export function contains(one: Place, other: Place): boolean {
  return one.offset <= other.offset && one.seq <= other.seq;
}

/** The latest place of an attempt that what follows both of these follows. */
export function earlier(one: Place, other: Place): Place {
  return {
    attempt: one.attempt,
    offset: Math.min(one.offset, other.offset),
    seq: Math.min(one.seq, other.seq),
  };
}
