BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE answers (
	question_id CHAR(32) NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	text TEXT NOT NULL, 
	folded TEXT NOT NULL, 
	supported BOOLEAN NOT NULL, 
	confidence DOUBLE NOT NULL, 
	model TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	retriever VARCHAR(200) NOT NULL, 
	timings_ms TEXT NOT NULL, 
	answered_at DATETIME NOT NULL, note TEXT DEFAULT '' NOT NULL, 
	CONSTRAINT pk_answers PRIMARY KEY (question_id), 
	CONSTRAINT fk_answers_question_id_questions FOREIGN KEY(question_id) REFERENCES questions (id) ON DELETE CASCADE
);
INSERT INTO "answers" VALUES('748da27e78bc4a30bd1ffcf37bb21ecf','complete','Apples fall.','apples fall.',1,0.75,'extractive','{}','first-model','{"encode":1.0,"search":2.0,"answer":3.0,"total":6.0}','2026-11-20 12:02:48.992005','The model server could not be reached.');
INSERT INTO "answers" VALUES('ab83bd868c7d4a47977d8b2a842d5157','complete','The lectures do not say.','the lectures do not say.',0,0.125,'extractive','{}','first-model','{"total":1.0}','2026-11-20 12:02:48.999065','');
CREATE TABLE citations (
	question_id CHAR(32) NOT NULL, 
	nearest BOOLEAN NOT NULL, 
	rank BIGINT NOT NULL, 
	span_start BIGINT NOT NULL, 
	span_end BIGINT NOT NULL, 
	lecture_id CHAR(32) NOT NULL, 
	run_id CHAR(32) NOT NULL, 
	start_sample BIGINT NOT NULL, 
	end_sample BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_citations PRIMARY KEY (question_id, nearest, rank), 
	CONSTRAINT fk_citations_question_id_answers FOREIGN KEY(question_id) REFERENCES answers (question_id) ON DELETE CASCADE
);
INSERT INTO "citations" VALUES('748da27e78bc4a30bd1ffcf37bb21ecf',0,0,0,9000,'961452d54b3948ea8d15a16b083b26f9','9c952137c7314f36883642010d8985b0',0,16000,'apples fall');
INSERT INTO "citations" VALUES('ab83bd868c7d4a47977d8b2a842d5157',1,0,16000,30000,'961452d54b3948ea8d15a16b083b26f9','9c952137c7314f36883642010d8985b0',16000,48000,'feathers float');
CREATE TABLE courses (
	id CHAR(32) NOT NULL, 
	owner_id CHAR(32) NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_courses PRIMARY KEY (id), 
	CONSTRAINT fk_courses_owner_id_owners FOREIGN KEY(owner_id) REFERENCES owners (id) ON DELETE CASCADE, 
	CONSTRAINT uq_courses_owner_id_name UNIQUE (owner_id, name)
);
INSERT INTO "courses" VALUES('64374475faed4096859e250a72309d7f','00000000000000000000000000000001','Physics');
CREATE TABLE evidence (
	question_id CHAR(32) NOT NULL, 
	rank BIGINT NOT NULL, 
	lecture_title TEXT NOT NULL, 
	score DOUBLE NOT NULL, 
	cosine DOUBLE NOT NULL, 
	lexical DOUBLE NOT NULL, 
	coverage DOUBLE NOT NULL, 
	margin DOUBLE NOT NULL, 
	lecture_id CHAR(32) NOT NULL, 
	run_id CHAR(32) NOT NULL, 
	start_sample BIGINT NOT NULL, 
	end_sample BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_evidence PRIMARY KEY (question_id, rank), 
	CONSTRAINT fk_evidence_question_id_answers FOREIGN KEY(question_id) REFERENCES answers (question_id) ON DELETE CASCADE
);
INSERT INTO "evidence" VALUES('748da27e78bc4a30bd1ffcf37bb21ecf',0,'On falling bodies',1.5,0.5,2.0,1.0,0.25,'961452d54b3948ea8d15a16b083b26f9','9c952137c7314f36883642010d8985b0',0,16000,'apples fall');
INSERT INTO "evidence" VALUES('ab83bd868c7d4a47977d8b2a842d5157',0,'On falling bodies',1.5,0.5,2.0,1.0,0.25,'961452d54b3948ea8d15a16b083b26f9','9c952137c7314f36883642010d8985b0',0,16000,'apples fall');
CREATE TABLE index_generations (
	fingerprint VARCHAR(200) NOT NULL, 
	generation BIGINT NOT NULL, 
	CONSTRAINT pk_index_generations PRIMARY KEY (fingerprint)
);
INSERT INTO "index_generations" VALUES('first-model',1);
CREATE TABLE jobs (
	id CHAR(32) NOT NULL, 
	owner_id CHAR(32) NOT NULL, 
	lecture_id CHAR(32) NOT NULL, 
	language VARCHAR(35) NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	stage VARCHAR(20) NOT NULL, 
	done BIGINT NOT NULL, 
	total BIGINT NOT NULL, 
	message TEXT NOT NULL, 
	attempts BIGINT NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	started_at DATETIME, 
	finished_at DATETIME, 
	stage_started_at DATETIME, 
	stage_base BIGINT NOT NULL, 
	expires_at DATETIME, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT fk_jobs_lecture_id_lectures FOREIGN KEY(lecture_id) REFERENCES lectures (id) ON DELETE CASCADE, 
	CONSTRAINT fk_jobs_owner_id_owners FOREIGN KEY(owner_id) REFERENCES owners (id) ON DELETE CASCADE
);
INSERT INTO "jobs" VALUES('d6ba157f33a94a05b66a2650d9a01cca','00000000000000000000000000000001','961452d54b3948ea8d15a16b083b26f9','en','ingest','done','listening',2,2,'',1,0,'2026-11-20 12:02:48.742592','2026-11-20 12:02:48.865101','2026-11-20 12:02:48.894891','2026-11-20 12:02:48.874718',0,NULL);
CREATE TABLE lectures (
	id CHAR(32) NOT NULL, 
	owner_id CHAR(32) NOT NULL, 
	content_hash VARCHAR(64) NOT NULL, 
	course_id CHAR(32), 
	title TEXT NOT NULL, 
	language VARCHAR(35) NOT NULL, 
	file_name TEXT NOT NULL, 
	added_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	CONSTRAINT pk_lectures PRIMARY KEY (id), 
	CONSTRAINT fk_lectures_content_hash_sounds FOREIGN KEY(content_hash) REFERENCES sounds (content_hash), 
	CONSTRAINT fk_lectures_course_id_courses FOREIGN KEY(course_id) REFERENCES courses (id) ON DELETE SET NULL, 
	CONSTRAINT fk_lectures_owner_id_owners FOREIGN KEY(owner_id) REFERENCES owners (id) ON DELETE CASCADE, 
	CONSTRAINT uq_lectures_owner_id_content_hash UNIQUE (owner_id, content_hash)
);
INSERT INTO "lectures" VALUES('961452d54b3948ea8d15a16b083b26f9','00000000000000000000000000000001','69f9694bd8b6a6ff73a14535577d187b8d1308440c6a9dd3d21db42b1f171528','64374475faed4096859e250a72309d7f','On falling bodies','en','falling.wav','2026-11-20 12:02:48.729671',NULL);
CREATE TABLE owners (
	id CHAR(32) NOT NULL, 
	name TEXT NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_owners PRIMARY KEY (id)
);
INSERT INTO "owners" VALUES('00000000000000000000000000000001','local','2026-11-20 12:02:48.581788');
CREATE TABLE questions (
	id CHAR(32) NOT NULL, 
	owner_id CHAR(32) NOT NULL, 
	text TEXT, 
	heard TEXT, 
	folded TEXT NOT NULL, 
	scope TEXT, 
	language VARCHAR(35) NOT NULL, 
	corrects CHAR(32), 
	audio_hash VARCHAR(64), 
	asked_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	CONSTRAINT pk_questions PRIMARY KEY (id), 
	CONSTRAINT fk_questions_corrects_questions FOREIGN KEY(corrects) REFERENCES questions (id) ON DELETE SET NULL, 
	CONSTRAINT fk_questions_owner_id_owners FOREIGN KEY(owner_id) REFERENCES owners (id) ON DELETE CASCADE
);
INSERT INTO "questions" VALUES('748da27e78bc4a30bd1ffcf37bb21ecf','00000000000000000000000000000001','what falls?','what false','what falls?
what false','["961452d5-4b39-48ea-8d15-a16b083b26f9"]','en',NULL,'5a312281df4bd8dfbb4d4a94ad0bf44d01bb8cfced1206b90e21b4ca0568cdb1','2026-11-20 12:02:48.967078',NULL);
INSERT INTO "questions" VALUES('ab83bd868c7d4a47977d8b2a842d5157','00000000000000000000000000000001','what sings?',NULL,'what sings?
',NULL,'en','748da27e78bc4a30bd1ffcf37bb21ecf',NULL,'2026-11-20 12:02:48.998246',NULL);
CREATE TABLE segmentation_runs (
	id CHAR(32) NOT NULL, 
	lecture_id CHAR(32) NOT NULL, 
	settings TEXT NOT NULL, 
	warning TEXT NOT NULL, 
	num_segments BIGINT NOT NULL, 
	current BOOLEAN NOT NULL, 
	created_at DATETIME NOT NULL, 
	CONSTRAINT pk_segmentation_runs PRIMARY KEY (id), 
	CONSTRAINT fk_segmentation_runs_lecture_id_lectures FOREIGN KEY(lecture_id) REFERENCES lectures (id) ON DELETE CASCADE
);
INSERT INTO "segmentation_runs" VALUES('9c952137c7314f36883642010d8985b0','961452d54b3948ea8d15a16b083b26f9','{"kind":"pauses"}','the last second is silent',2,1,'2026-11-20 12:02:48.845720');
CREATE TABLE segments (
	id INTEGER NOT NULL, 
	lecture_id CHAR(32) NOT NULL, 
	run_id CHAR(32) NOT NULL, 
	ordinal BIGINT NOT NULL, 
	start_sample BIGINT NOT NULL, 
	end_sample BIGINT NOT NULL, 
	CONSTRAINT pk_segments PRIMARY KEY (id), 
	CONSTRAINT ck_segments_ck_segments_span CHECK (start_sample >= 0 AND start_sample < end_sample), 
	CONSTRAINT fk_segments_lecture_id_lectures FOREIGN KEY(lecture_id) REFERENCES lectures (id) ON DELETE CASCADE, 
	CONSTRAINT fk_segments_run_id_segmentation_runs FOREIGN KEY(run_id) REFERENCES segmentation_runs (id) ON DELETE CASCADE, 
	CONSTRAINT uq_segments_run_id_ordinal UNIQUE (run_id, ordinal)
);
INSERT INTO "segments" VALUES(2680930292062964845,'961452d54b3948ea8d15a16b083b26f9','9c952137c7314f36883642010d8985b0',0,0,16000);
INSERT INTO "segments" VALUES(5653839438086116165,'961452d54b3948ea8d15a16b083b26f9','9c952137c7314f36883642010d8985b0',1,16000,48000);
CREATE TABLE sounds (
	content_hash VARCHAR(64) NOT NULL, 
	suffix VARCHAR(16) NOT NULL, 
	num_bytes BIGINT NOT NULL, 
	decoded BOOLEAN NOT NULL, 
	decoded_bytes BIGINT NOT NULL, 
	num_samples BIGINT NOT NULL, 
	added_at DATETIME NOT NULL, 
	CONSTRAINT pk_sounds PRIMARY KEY (content_hash)
);
INSERT INTO "sounds" VALUES('69f9694bd8b6a6ff73a14535577d187b8d1308440c6a9dd3d21db42b1f171528','.wav',17,1,220,48000,'2026-11-20 12:02:48.729671');
CREATE TABLE transcripts (
	segment_id INTEGER NOT NULL, 
	fingerprint VARCHAR(200) NOT NULL, 
	text TEXT NOT NULL, 
	words TEXT NOT NULL, 
	CONSTRAINT pk_transcripts PRIMARY KEY (segment_id, fingerprint), 
	CONSTRAINT fk_transcripts_segment_id_segments FOREIGN KEY(segment_id) REFERENCES segments (id) ON DELETE CASCADE
);
INSERT INTO "transcripts" VALUES(2680930292062964845,'first-model','apples fall','[["apples",0,5000,0.75],["fall",5000,9000,0.5]]');
INSERT INTO "transcripts" VALUES(5653839438086116165,'first-model','feathers float','[["feathers",16000,20000,0.25],["float",20000,30000,1.0]]');
CREATE TABLE vectors (
	segment_id INTEGER NOT NULL, 
	fingerprint VARCHAR(200) NOT NULL, 
	dimension BIGINT NOT NULL, 
	vector BLOB NOT NULL, 
	CONSTRAINT pk_vectors PRIMARY KEY (segment_id, fingerprint), 
	CONSTRAINT fk_vectors_segment_id_segments FOREIGN KEY(segment_id) REFERENCES segments (id) ON DELETE CASCADE
);
INSERT INTO "vectors" VALUES(2680930292062964845,'first-model',2,X'9A99193FCDCC4C3F');
INSERT INTO "vectors" VALUES(5653839438086116165,'first-model',2,X'0000803F00000000');
CREATE TABLE workers (
	name TEXT NOT NULL, 
	seen_at DATETIME NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (name)
);
INSERT INTO "workers" VALUES('host:1','2026-11-20 12:02:48.999522');
CREATE INDEX ix_questions_audio_hash ON questions (audio_hash);
CREATE INDEX ix_questions_corrects ON questions (corrects);
CREATE INDEX ix_questions_expires_at ON questions (expires_at);
CREATE INDEX ix_questions_owner_id_asked_at ON questions (owner_id, asked_at);
CREATE INDEX ix_lectures_content_hash ON lectures (content_hash);
CREATE INDEX ix_lectures_course_id ON lectures (course_id);
CREATE INDEX ix_lectures_expires_at ON lectures (expires_at);
CREATE INDEX ix_citations_lecture_id ON citations (lecture_id);
CREATE INDEX ix_evidence_lecture_id ON evidence (lecture_id);
CREATE INDEX ix_jobs_lecture_id_created_at ON jobs (lecture_id, created_at);
CREATE INDEX ix_jobs_owner_id ON jobs (owner_id);
CREATE INDEX ix_jobs_state_created_at ON jobs (state, created_at);
CREATE UNIQUE INDEX uq_jobs_unfinished ON jobs (lecture_id, kind) WHERE state IN ('queued', 'running');
CREATE INDEX ix_segmentation_runs_lecture_id ON segmentation_runs (lecture_id);
CREATE UNIQUE INDEX uq_segmentation_runs_current ON segmentation_runs (lecture_id) WHERE current;
CREATE INDEX ix_segments_lecture_id ON segments (lecture_id);
CREATE INDEX ix_vectors_fingerprint ON vectors (fingerprint);
COMMIT;
