-- The database of a store of version 2, as it was made then.
CREATE TABLE code (
	id INTEGER NOT NULL, 
	system TEXT NOT NULL, 
	version TEXT DEFAULT '' NOT NULL, 
	code TEXT NOT NULL, 
	display TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (system, version, code)
)
 STRICT;
CREATE TABLE biobank (
	id TEXT NOT NULL, 
	acronym TEXT, 
	name TEXT NOT NULL, 
	country TEXT NOT NULL, 
	juristic_person TEXT NOT NULL, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (attributes IS NULL OR json_valid(attributes)), 
	CHECK (length(country) = 2 AND country = upper(country))
)
 STRICT;
CREATE TABLE software (
	id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	version TEXT NOT NULL, 
	code_sha256 TEXT NOT NULL, 
	passport TEXT, 
	PRIMARY KEY (id), 
	CHECK (passport IS NULL OR json_valid(passport)), 
	UNIQUE (name, version, code_sha256)
)
 STRICT;
CREATE TABLE parameter_set (
	sha256 TEXT NOT NULL, 
	schema TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (sha256), 
	CHECK (body IS NULL OR json_valid(body))
)
 STRICT;
CREATE TABLE mapping (
	standard TEXT NOT NULL, 
	version TEXT NOT NULL, 
	entity TEXT NOT NULL, 
	core_table TEXT NOT NULL, 
	core_id TEXT NOT NULL, 
	external_id TEXT NOT NULL, 
	PRIMARY KEY (standard, version, entity, external_id)
)
 STRICT;
CREATE INDEX mapping_of ON mapping (core_table, core_id);
CREATE TABLE gap (
	id INTEGER NOT NULL, 
	direction TEXT NOT NULL, 
	standard TEXT NOT NULL, 
	version TEXT NOT NULL, 
	path TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	n INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (direction IN ('import', 'export'))
)
 STRICT;
CREATE TABLE tombstone (
	mac TEXT NOT NULL, 
	at TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	PRIMARY KEY (mac)
)
 STRICT;
CREATE TABLE audit (
	seq INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	who TEXT NOT NULL, 
	role TEXT NOT NULL, 
	action TEXT NOT NULL, 
	object TEXT NOT NULL, 
	detail_sha256 TEXT NOT NULL, 
	prev TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	PRIMARY KEY (seq), 
	UNIQUE (hash)
)
 STRICT;
CREATE TABLE collection (
	id TEXT NOT NULL, 
	biobank TEXT NOT NULL, 
	name TEXT NOT NULL, 
	description TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (kind IN ('sample', 'image', 'mixed')), 
	CHECK (attributes IS NULL OR json_valid(attributes)), 
	FOREIGN KEY(biobank) REFERENCES biobank (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE study (
	id TEXT NOT NULL, 
	title TEXT NOT NULL, 
	purpose INTEGER NOT NULL, 
	legal_basis TEXT NOT NULL, 
	retention_until TEXT NOT NULL, 
	small_cell_k INTEGER NOT NULL, 
	key_epoch INTEGER NOT NULL, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (attributes IS NULL OR json_valid(attributes)), 
	FOREIGN KEY(purpose) REFERENCES code (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE subject (
	"key" TEXT NOT NULL, 
	site TEXT NOT NULL, 
	species INTEGER NOT NULL, 
	sex TEXT NOT NULL, 
	age_day0_d INTEGER, 
	day0_kind TEXT NOT NULL, 
	PRIMARY KEY ("key"), 
	CHECK (sex IN ('female', 'male', 'undifferentiated', 'unknown', 'not-applicable')), 
	CHECK (day0_kind IN ('diagnosis', 'first-imaging', 'enrolment')), 
	CHECK (key GLOB 'P-[A-Z2-7]*' AND length(key) = 18), 
	CHECK (age_day0_d BETWEEN 0 AND 32872), 
	FOREIGN KEY(species) REFERENCES code (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE artefact (
	sha256 TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	asserted TEXT NOT NULL, 
	media_type TEXT NOT NULL, 
	bytes INTEGER NOT NULL, 
	uri TEXT NOT NULL, 
	unit INTEGER, 
	frame_uid TEXT, 
	PRIMARY KEY (sha256), 
	CHECK (kind IN ('map', 'mesh', 'segmentation', 'transform', 'parameters', 'field', 'cells', 'forecast', 'report', 'table', 'crate')), 
	CHECK (asserted IN ('observed', 'simulated')), 
	FOREIGN KEY(unit) REFERENCES code (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE run (
	id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	software TEXT NOT NULL, 
	parameters TEXT NOT NULL, 
	inputs_sha256 TEXT NOT NULL, 
	seed TEXT NOT NULL, 
	campaign TEXT, 
	PRIMARY KEY (id), 
	CHECK (kind IN ('analysis', 'calibration', 'forecast')), 
	FOREIGN KEY(software) REFERENCES software (id) ON DELETE RESTRICT, 
	FOREIGN KEY(parameters) REFERENCES parameter_set (sha256) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE export (
	id TEXT NOT NULL, 
	standard TEXT NOT NULL, 
	version TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	recipient TEXT NOT NULL, 
	purpose INTEGER NOT NULL, 
	subjects INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(purpose) REFERENCES code (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE enrolment (
	subject TEXT NOT NULL, 
	study TEXT NOT NULL, 
	collection TEXT, 
	PRIMARY KEY (subject, study), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(study) REFERENCES study (id) ON DELETE RESTRICT, 
	FOREIGN KEY(collection) REFERENCES collection (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE consent (
	id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	study TEXT NOT NULL, 
	status TEXT NOT NULL, 
	legal_basis TEXT NOT NULL, 
	purposes TEXT NOT NULL, 
	categories TEXT NOT NULL, 
	valid_from TEXT NOT NULL, 
	valid_until TEXT, 
	document_sha256 TEXT NOT NULL, 
	recorded_at TEXT NOT NULL, 
	withdrawn_at TEXT, 
	supersedes TEXT, 
	PRIMARY KEY (id), 
	CHECK (status IN ('active', 'withdrawn', 'expired', 'refused')), 
	CHECK (purposes IS NULL OR json_valid(purposes)), 
	CHECK (categories IS NULL OR json_valid(categories)), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(study) REFERENCES study (id) ON DELETE RESTRICT, 
	FOREIGN KEY(supersedes) REFERENCES consent (id) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX consent_of ON consent (subject, study);
CREATE TABLE sample (
	id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	parent TEXT, 
	type INTEGER NOT NULL, 
	site INTEGER, 
	diagnosis INTEGER, 
	storage TEXT, 
	taken_day INTEGER, 
	collection TEXT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(parent) REFERENCES sample (id) ON DELETE RESTRICT, 
	FOREIGN KEY(type) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(site) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(diagnosis) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(collection) REFERENCES collection (id) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX sample_of ON sample (subject);
CREATE TABLE event (
	id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	day INTEGER, 
	age_d INTEGER, 
	end_day INTEGER, 
	code INTEGER NOT NULL, 
	parent TEXT, 
	attributes TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (kind IN ('diagnosis', 'treatment', 'surgery', 'radiotherapy', 'follow-up', 'progression', 'death', 'imaging', 'sampling')), 
	CHECK (attributes IS NULL OR json_valid(attributes)), 
	CHECK ((day IS NULL) <> (age_d IS NULL)), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(code) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(parent) REFERENCES event (id) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX event_of ON event (subject, kind);
CREATE TABLE contains (
	artefact TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	share TEXT NOT NULL, 
	PRIMARY KEY (artefact, subject), 
	CHECK (share IN ('sole', 'pooled')), 
	FOREIGN KEY(artefact) REFERENCES artefact (sha256) ON DELETE RESTRICT, 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE attempt (
	run TEXT NOT NULL, 
	n INTEGER NOT NULL, 
	status TEXT NOT NULL, 
	started TEXT, 
	ended TEXT, 
	environment_sha256 TEXT NOT NULL, 
	output_sha256 TEXT, 
	failure TEXT, 
	PRIMARY KEY (run, n), 
	CHECK (status IN ('queued', 'running', 'done', 'failed', 'stopped-consent', 'cancelled')), 
	CHECK (failure IS NULL OR json_valid(failure)), 
	FOREIGN KEY(run) REFERENCES run (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE prediction (
	id TEXT NOT NULL, 
	run TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	quantity INTEGER NOT NULL, 
	horizon_day INTEGER NOT NULL, 
	value REAL NOT NULL, 
	low REAL, 
	high REAL, 
	level REAL, 
	unit INTEGER NOT NULL, 
	artefact TEXT, 
	status TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (status IN ('preliminary', 'withdrawn')), 
	CHECK (level > 0 AND level < 1), 
	FOREIGN KEY(run) REFERENCES run (id) ON DELETE RESTRICT, 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(quantity) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(unit) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(artefact) REFERENCES artefact (sha256) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX prediction_of ON prediction (subject);
CREATE TABLE export_subject (
	export TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	PRIMARY KEY (export, subject), 
	FOREIGN KEY(export) REFERENCES export (id) ON DELETE RESTRICT, 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE decision (
	id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	operation TEXT NOT NULL, 
	purpose INTEGER NOT NULL, 
	categories TEXT NOT NULL, 
	consent TEXT, 
	policy_sha256 TEXT NOT NULL, 
	outcome TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	CHECK (operation IN ('ingest', 'run', 'export', 'review', 'share')), 
	CHECK (categories IS NULL OR json_valid(categories)), 
	CHECK (outcome IN ('permit', 'deny')), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(purpose) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(consent) REFERENCES consent (id) ON DELETE RESTRICT
)
 STRICT;
CREATE TABLE image_series (
	uid TEXT NOT NULL, 
	study_uid TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	event TEXT NOT NULL, 
	modality INTEGER NOT NULL, 
	body_site INTEGER, 
	laterality TEXT, 
	frame_uid TEXT, 
	role TEXT NOT NULL, 
	acquisition TEXT NOT NULL, 
	instances INTEGER NOT NULL, 
	content_sha256 TEXT NOT NULL, 
	deid_report_sha256 TEXT NOT NULL, 
	uri TEXT NOT NULL, 
	PRIMARY KEY (uid), 
	CHECK (role IN ('original', 'annotated', 'segmented', 'registered', 'derived', 'simulated')), 
	CHECK (acquisition IS NULL OR json_valid(acquisition)), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(event) REFERENCES event (id) ON DELETE RESTRICT, 
	FOREIGN KEY(modality) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(body_site) REFERENCES code (id) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX series_of ON image_series (event);
CREATE TABLE run_subject (
	run TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	decision TEXT NOT NULL, 
	PRIMARY KEY (run, subject), 
	FOREIGN KEY(run) REFERENCES run (id) ON DELETE RESTRICT, 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(decision) REFERENCES decision (id) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX run_of ON run_subject (subject);
CREATE TABLE link (
	id INTEGER NOT NULL, 
	run TEXT NOT NULL, 
	attempt INTEGER NOT NULL, 
	role TEXT NOT NULL, 
	port TEXT NOT NULL, 
	artefact TEXT, 
	series TEXT, 
	sample TEXT, 
	PRIMARY KEY (id), 
	CHECK (role IN ('used', 'generated')), 
	CHECK ((CASE WHEN artefact IS NULL THEN 0 ELSE 1 END) + (CASE WHEN series IS NULL THEN 0 ELSE 1 END) + (CASE WHEN sample IS NULL THEN 0 ELSE 1 END) = 1), 
	UNIQUE (run, attempt, role, port), 
	FOREIGN KEY(run) REFERENCES run (id) ON DELETE RESTRICT, 
	FOREIGN KEY(artefact) REFERENCES artefact (sha256) ON DELETE RESTRICT, 
	FOREIGN KEY(series) REFERENCES image_series (uid) ON DELETE RESTRICT, 
	FOREIGN KEY(sample) REFERENCES sample (id) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX link_of ON link (run, attempt);
CREATE TABLE observation (
	id TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	quantity INTEGER NOT NULL, 
	value REAL, 
	value_code INTEGER, 
	unit INTEGER, 
	sd REAL, 
	method INTEGER, 
	software TEXT, 
	run TEXT, 
	series TEXT, 
	sample TEXT, 
	artefact TEXT, 
	day INTEGER, 
	PRIMARY KEY (id), 
	CHECK ((value IS NULL) <> (value_code IS NULL)), 
	FOREIGN KEY(subject) REFERENCES subject ("key") ON DELETE RESTRICT, 
	FOREIGN KEY(quantity) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(value_code) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(unit) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(method) REFERENCES code (id) ON DELETE RESTRICT, 
	FOREIGN KEY(software) REFERENCES software (id) ON DELETE RESTRICT, 
	FOREIGN KEY(run) REFERENCES run (id) ON DELETE RESTRICT, 
	FOREIGN KEY(series) REFERENCES image_series (uid) ON DELETE RESTRICT, 
	FOREIGN KEY(sample) REFERENCES sample (id) ON DELETE RESTRICT, 
	FOREIGN KEY(artefact) REFERENCES artefact (sha256) ON DELETE RESTRICT
)
 STRICT;
CREATE INDEX observation_of ON observation (subject);
CREATE TRIGGER attempt_needs_permission BEFORE INSERT ON attempt
       WHEN EXISTS (SELECT 1 FROM run_subject s JOIN decision d ON d.id = s.decision WHERE s.run = NEW.run
                    AND (d.outcome <> 'permit' OR d.operation <> 'run' OR d.subject <> s.subject))
       BEGIN SELECT RAISE(ABORT, 'attempt without a permit'); END;
CREATE TRIGGER use_needs_permission BEFORE INSERT ON link
       WHEN NEW.role = 'used' AND EXISTS (
           SELECT subject FROM image_series WHERE uid = NEW.series
           UNION SELECT subject FROM contains WHERE artefact = NEW.artefact
           UNION SELECT subject FROM sample WHERE id = NEW.sample
           EXCEPT SELECT subject FROM run_subject WHERE run = NEW.run)
       BEGIN SELECT RAISE(ABORT, 'input of a subject without a permit'); END;
CREATE TRIGGER prediction_of_a_forecast BEFORE INSERT ON prediction
       WHEN (SELECT kind FROM run WHERE id = NEW.run) NOT IN ('forecast', 'calibration')
       BEGIN SELECT RAISE(ABORT, 'a prediction needs a forecast or a calibration'); END;
CREATE TRIGGER observation_of_an_analysis BEFORE INSERT ON observation
       WHEN NEW.run IS NOT NULL AND (SELECT kind FROM run WHERE id = NEW.run) <> 'analysis'
       BEGIN SELECT RAISE(ABORT, 'an observation needs an analysis'); END;
CREATE TRIGGER observation_of_what_was_seen BEFORE INSERT ON observation
       WHEN EXISTS (SELECT 1 FROM link l JOIN artefact a ON a.sha256 = l.artefact
                    WHERE l.run = NEW.run AND l.role = 'used' AND a.asserted = 'simulated')
       BEGIN SELECT RAISE(ABORT, 'an observation cannot rest on a simulation'); END;
CREATE TRIGGER seen_stays_apart_from_simulated BEFORE INSERT ON link
       WHEN NEW.role = 'used' AND (SELECT asserted FROM artefact WHERE sha256 = NEW.artefact) = 'simulated'
            AND EXISTS (SELECT 1 FROM observation WHERE run = NEW.run)
       BEGIN SELECT RAISE(ABORT, 'an observation cannot rest on a simulation'); END;
CREATE TRIGGER decision_is_final BEFORE UPDATE ON decision BEGIN SELECT RAISE(ABORT, 'decisions are final'); END;
CREATE TRIGGER consent_is_final BEFORE UPDATE ON consent BEGIN SELECT RAISE(ABORT, 'consents are final'); END;
CREATE TRIGGER audit_is_final BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is final'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is final'); END
