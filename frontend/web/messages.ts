// The messages of the streams, as far as the pages read them.

export type Values = Record<string, number | string | boolean>;

export interface Progress {
  job_id: number;
  progress: Values | null;
  fraction: number | null;
}

export interface Job {
  id: number;
  status: string;
  phase: string | null;
  attempt: number;
  artifacts: number;
  cancel_requested: boolean;
}

export interface LogPiece {
  attempt: number;
  offset: number;
  end: number;
  text?: string | null;
  base64?: string | null;
}

export interface MetricRecord {
  attempt: number;
  seq: number;
  step: number;
  at: string;
  values: Values;
}

export interface WorkerSample {
  at: string;
  metrics: {
    cpu_percent: number;
    memory_used: number;
    disk_used: number;
    gpus: Record<string, number>[];
  };
}

export interface MetricPage {
  attempt: number;
  records: Omit<MetricRecord, "attempt">[];
  next: number;
}

export interface Event {
  kind: string;
  job_id: number | null;
  worker_id: string | null;
}
