# A store's schema (`headgate migrate status` and `up`), and its way from SQLite to PostgreSQL (`copy`): made by real
# events, killed in the middle, compared row by row; then `serve` goes on there with what was pending. Behind the copy this
# is the whole road on PostgreSQL: publish, persist, deliver, inbox, acknowledge.
use v5.36;
use Digest::SHA qw(sha256_hex);
use Test::More;

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

Headgate::Postgres->need;

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $redis    = $t->redis;
my $receiver = Headgate::Receiver->start($t);
my $h        = $t->sidecar(redis => $redis)->serve->wait_until_healthy;
my $front    = $h->front;
my $source   = "sqlite:$h->{database}";
-x $h->executable_with_failpoints or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');

sub database ($name) {
    $postgres->sql("CREATE DATABASE $name");
    return $postgres->url($name);
}
# A command on another store than the configured one.
sub run_on ($store, @words) {
    local $ENV{HEADGATE_STORE_URL} = $store;
    return $h->run(@words);
}
sub fails_with ($pattern, $store, @words) {
    my ($code, $said) = run_on($store, @words);
    is $code, 1, "headgate @words: exit 1" or diag $said;
    like $said, $pattern, '... and says why';
}
# `serve` on a store that it must not touch: ends by itself.
sub serve_refuses ($pattern, $store) {
    my $serve = $t->start(name => 'refused serve', log => $t->path('refused.log'), command => [$h->executable, 'serve', '--config', $h->config], env => { HEADGATE_STORE_URL => $store });
    $serve->wait(20);
    is $serve->describe_exit, 'exit 1', 'headgate serve: exit 1' or diag $serve->log_text;
    like $serve->log_text, $pattern, '... and says why';
}
# The rows of a --json answer, errors left out.
sub rows ($said) { ($said =~ /^(\[.*\])$/m) ? JSON::PP->new->utf8->decode($1)->@* : () }

# ---- status, up --------------------------------------------------------------------------------

for my $store (database('fresh'), 'sqlite:' . $t->path('fresh.db')) {
    my ($engine) = $store =~ /\A(\w+)/;
    # A file that is not there has no status, and is not made by asking.
    fails_with($engine eq 'sqlite' ? qr/cannot open/ : qr/0001_initial\twaiting.*migrations wait/s, $store, 'migrate', 'status');
    ok !-e $t->path('fresh.db'), '... and changes nothing' if $engine eq 'sqlite';
    my @both = map {
        $t->start(name => "$engine-up-$_", log => $t->path("$engine-up-$_.log"), command => [$h->executable, qw(migrate up --json --config), $h->config], env => { HEADGATE_STORE_URL => $store })
    } 1, 2;
    $_->wait(20) for @both;
    is_deeply [map { $_->status } @both], [0, 0], "$engine: two `up` at once" or diag map { $_->log_text } @both;
    my @applied = sort { $a <=> $b } map { JSON::PP::decode_json($_->log_text)->{applied} } @both;
    is $applied[0], 0, '... one finds nothing left to do';
    ok $applied[1] > 1, '... the other has applied all';
    my ($code, $said) = run_on($store, qw(migrate status --json));
    is $code, 0, '... and then nothing waits';
    is_deeply [map { $_->{state} } rows($said)], [('applied') x $applied[1]], '... of all of them' or diag $said;
    like((rows($said))[0]{applied_at}, qr/\A\d{4}-\d\d-\d\dT/, '... since when');

    my $newer = "INSERT INTO schema_migrations (version, name, sha256, applied_at) VALUES ($applied[1] + 1, '9999_from_tomorrow', '', 1)";
    $engine eq 'sqlite' ? `sqlite3 @{[ $t->path('fresh.db') ]} @{[ quotemeta $newer ]}` : $postgres->sql($newer, 'fresh');
    fails_with(qr/9999_from_tomorrow\tnewer.*newer than this program/s, $store, 'migrate', 'status');
    fails_with(qr/newer than this program's $applied[1]/, $store, 'migrate', 'up');
    fails_with(qr/newer than this program's $applied[1]/, $store, 'org', 'list');
}

# A store that an older version has left: what is there stays, the rest is applied.
for my $engine (qw(sqlite postgres)) {
    my $file  = $t->root . "/sidecar/store/migrations/$engine/0001_initial.sql";
    my $first = $t->read_file($file);
    my $table = 'CREATE TABLE schema_migrations (version ' . ($engine eq 'sqlite' ? 'INTEGER' : 'BIGINT') . ' PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at BIGINT NOT NULL)';
    $table =~ s/BIGINT NOT NULL\)/INTEGER NOT NULL) STRICT/ if $engine eq 'sqlite';
    my $old = "$first; $table; INSERT INTO schema_migrations VALUES (1, '0001_initial', '@{[ sha256_hex($first) ]}', 1700000000000); INSERT INTO plans VALUES ('kept', '1r/m', 1)";
    my $store;
    if ($engine eq 'sqlite') {
        $store = 'sqlite:' . $t->path('old.db');
        open my $sqlite, '|-', 'sqlite3', $t->path('old.db') or die "sqlite3: $!";
        print $sqlite "$old;\n";
        close $sqlite or die "sqlite3: exit $?";
    }
    else {
        $store = database('old');
        $postgres->sql($old, 'old');
    }
    my ($code, $said) = run_on($store, qw(migrate status --json));
    is $code, 1, "$engine: one is applied, the rest waits: exit 1";
    is_deeply [map { $_->{state} } (rows($said))[0, 1, -1]], [qw(applied waiting waiting)], '... says status' or diag $said;
    is((rows($said))[0]{applied_at}, '2023-11-14T22:13:20.000Z', '... with its time');
    my $waiting = grep { $_->{state} eq 'waiting' } rows($said);
    ($code, $said) = run_on($store, qw(migrate up));
    like $said, qr/^applied: $waiting$/m, '... and `up` applies just the rest';
    like +(run_on($store, qw(migrate up)))[1], qr/^applied: 0$/m, '... once';
    my $kept = $engine eq 'sqlite' ? `sqlite3 @{[ $t->path('old.db') ]} 'SELECT name FROM plans'` : $postgres->sql('SELECT name FROM plans', 'old');
    like $kept, qr/\Akept$/, '... and keeps what was there';
}

# ---- a store with something in every table ------------------------------------------------------

sub call ($method, $target, $body = undef) {
    my @headers = ('X-API-Key' => $h->api_key);
    push @headers, 'Content-Type' => 'application/json' if defined $body;
    return Headgate::Http->connect(port => $h->port)->request($method, $target, headers => \@headers, defined $body ? (body => $body) : ());
}
sub data ($target) {
    my $answer = call('GET', $target);
    $t->die_with_logs("GET $target: " . $answer->status . $answer->body) if $answer->status != 200;
    my $json = $answer->json;
    return ref $json eq 'ARRAY' ? $json : $json->{data} // $json;
}
sub webhook ($path, %members) {
    my $made = call('POST', '/api/webhooks', json({ url => $receiver->url($path), events => ['order.*'], retry_config => { max_retries => 0 }, %members }));
    $t->die_with_logs("webhook $path: " . $made->body) if $made->status != 201;
    return $made->json->{data}{webhook}{id};
}
sub publish (%event) {
    my $answer = $front->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $h->api_key],
        body => json({ type => 'order.created', source => 'shop', payload => { n => 1 }, %event }),
    );
    $t->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
    return $answer->json->{id};
}
sub arrived ($path, $id) { scalar(($receiver->received->{"$path $id"} // [])->@*) }
sub states ($webhook) {
    my %states;
    $states{ $_->{state} }++ for data("/api/deliveries?webhook_id=$webhook&limit=200")->{deliveries}->@*;
    return \%states;
}
sub wait_states ($webhook, %expected) {
    $t->wait_for(
        "the deliveries of $webhook to be " . join(' ', %expected),
        sub { my $now = states($webhook); !grep { ($now->{$_} // 0) != $expected{$_} } keys %expected }
    );
}

$receiver->answer(dead  => 500);
$receiver->answer(later => 500);
$receiver->answer(block => 500);
my $COUNT = 30;
my $good  = webhook('good');
my $dead  = webhook('dead', events => ['dead.*']);
my $later = webhook('later', events => ['later.*'], retry_config => { schedule => [3_600_000] });
my $block = webhook('block', ordering => 'key', ordering_policy => 'block', headers => { 'X-Own' => 'sealed' }, events => ['line.*']);
my @ids   = map { publish() } 1 .. $COUNT;
my @lines = map { publish(type => 'line.moved', ordering_key => 'k') } 1 .. 5;
publish(type => $_) for qw(dead.one dead.two later.one later.two nobody.cares);
my $strange = $redis->command('KEYS', 'headgate:{*}:events')->[0];
$redis->command('XADD', $strange, '*', 'what', "\x00\xff");
wait_states($good,  success  => $COUNT);
wait_states($dead,  dead     => 2);
wait_states($later, retrying => 2);
wait_states($block, dead => 1, blocked => 4);
call('POST', "/inbox/$ids[0]/ack", '{}')->status == 200 or die 'ack';
$h->run_json('event', 'replay', '--webhook', $good, '--since', '1h', '--which', 'all', '--wait');
my $gone = $h->run_json('key', 'create', '--org', $h->org, '--name', 'gone', '--scopes', 'events:read');
$h->run_json('key', 'revoke', $gone->{id});
call('DELETE', '/api/webhooks/' . webhook('unwanted'))->status == 200 or die 'delete';
# In flight when the server dies, and so sent again at once when the next one has taken over.
$receiver->answer(hold => 0);
my $hold = webhook('hold', events => ['hold.*']);
my @held = map { publish(type => 'hold.on') } 1 .. 3;
wait_states($hold, in_flight => 3);
$t->wait_for('the quarantine', sub { $h->sql_value('SELECT count(*) FROM quarantine') == 1 });

my @lists = (
    '/api/events?limit=200', (map { "/api/deliveries?webhook_id=$_&limit=200" } $good, $dead, $later, $block), (map { "/api/webhooks/$_" } $good, $dead, $block),
    "/api/webhooks/$good/replays", "/api/events/$ids[3]/explain", '/inbox?limit=100', '/api/deliveries/' . data("/api/deliveries?webhook_id=$dead&limit=1")->{deliveries}[0]{id},
);
my %shown = map { $_ => data($_) } @lists;

fails_with(qr/another `headgate serve` holds/, $source, 'migrate', 'copy', '--to', database('rehearsed'));
{
    my ($code, $said) = $h->run('migrate', 'copy', '--source-in-use', '--to', $postgres->url('rehearsed'));
    is $code, 0, 'a rehearsal beside `serve`' or diag $said;
}
$h->crash;

# What no interface writes yet, and what PostgreSQL cannot keep as text.
my $org = $h->org;
$h->change(<<~"SQL");
    INSERT INTO plans VALUES ('own', '60r/m', 1);
    INSERT INTO users (id, organization_id, email, created_at, updated_at) VALUES ('user1', '$org', 'a\@b.example', 1, 2);
    INSERT INTO event_types (name, created_at) VALUES ('order.created', 1);
    INSERT INTO audit_log SELECT printf('a%05d', value), '$org', 'x', 'y', 'z', '{}', value FROM generate_series(1, 2500);
    INSERT INTO integrations (id, organization_id, user_id, integration_type, name, created_at, updated_at) VALUES ('i1', '$org', 'user1', 'hubspot', 'n', 1, 1), ('i2', '$org', NULL, 'hubspot', 'n', 1, 1);
    INSERT INTO integration_sync_logs (id, integration_id, sync_type, direction, started_at, status) VALUES ('s1', 'i1', 'full', 'import', 1, 'running');
    INSERT INTO system_outbox (id, organization_id, type, payload, created_at) VALUES (7000, '$org', 'webhook.disabled', '{}', 1);
    INSERT INTO projections (id, op, ref) SELECT 9000, 'key', id FROM api_keys LIMIT 1;
    INSERT INTO events (id, organization_id, seq, key_id, type, source, payload, ordering_key, traceparent, via, created_at, updated_at) VALUES ('018cc251-f400-7000-8000-000000000001', '$org', -1, '', 'old.one', 's', '{}', '', '', 'api', 1704067200000, 1704067200000);
    UPDATE webhooks SET backoff_multiplier = 1.1 WHERE id = '$good';
    UPDATE attempts SET response_body = CAST(x'61ff0062' AS TEXT) WHERE id = (SELECT min(id) FROM attempts);
    SQL
my %counts = map { $_->{name} => $h->sql_value("SELECT count(*) FROM $_->{name}") }
    $h->sql("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT IN ('leases', 'schema_migrations')");
is_deeply [grep { !$counts{$_} } sort keys %counts], [], 'every table has something in it';

# ---- the copy, killed again and again -----------------------------------------------------------

my $target = database('moved');
my @copy   = (qw(migrate copy --batch-rows 25 --json --to), $target);
sub copy_until ($failpoint) {
    my $process = $t->start(
        name => "copy until $failpoint", log => $t->path('copy.log'), command => [$h->executable_with_failpoints, @copy, '--config', $h->config],
        env => { HEADGATE_FAILPOINT => $failpoint },
    );
    return $process if $failpoint =~ /stop/;
    $process->wait(20);
    is $process->describe_exit, 'signal 9', "killed at $failpoint" or diag $process->log_text;
}
sub copied () { $postgres->sql('SELECT coalesce(sum(rows), 0) FROM store_copy_tables', 'moved') }
copy_until('in_copy');
copy_until('after_copy:3');
copy_until('in_copy:12');
my $first = copied();
cmp_ok $first, '>', 0, 'what was copied before stays';
copy_until('after_copy:20');
cmp_ok copied(), '>', $first, 'the next run goes on behind it';
serve_refuses(qr/a copy into this store has not ended/, $target);
fails_with(qr/a copy into this store has not ended/, $target, 'org', 'list');
{
    my $stopped = copy_until('in_copy:5=stop');
    $t->wait_for('the copy to stand still', sub { $t->read_file("/proc/@{[ $stopped->pid ]}/stat") =~ /\) T / });
    serve_refuses(qr/another `headgate serve` holds/, $source);
    $stopped->crash;
}
my ($code, $said) = $h->run(@copy);
is $code, 0, 'the last run ends' or diag $said;
like $said, qr/^copied audit_log: 2500 rows\n/m, '... shows how far it is';
my %report = map { $_->{table} => $_ } rows($said);
is_deeply { map { $_ => $report{$_}{rows} } keys %report }, \%counts, '... and names every table with its rows';
is_deeply [grep { !$report{$_}{ok} } keys %report], [], '... that are the same on both sides';
is_deeply { map { $_ => $postgres->sql("SELECT count(*) FROM $_", 'moved') } keys %counts }, \%counts, 'PostgreSQL counts the same';
is $postgres->sql('SELECT count(*) FROM leases', 'moved'), 0, 'leases are not copied';
is $postgres->sql(q{SELECT count(*) FROM deliveries WHERE state = 'in_flight'}, 'moved'), 3, '... and what a server had in flight stands as it left it';
is $postgres->sql("SELECT response_body FROM attempts ORDER BY id LIMIT 1", 'moved'), "a\xef\xbf\xbd\xef\xbf\xbdb", 'what is no text is replaced';
is $postgres->sql("SELECT tableoid::regclass FROM events WHERE type = 'old.one'", 'moved'), 'events_w2817', 'old rows have their weeks';
is $postgres->sql('SELECT sum(deliveries_made) FROM organizations', 'moved'), $counts{deliveries}, 'deliveries are counted';

# ---- differences --------------------------------------------------------------------------------

my @compare = (qw(migrate copy --compare-only --json --batch-rows 25 --to), $target);
sub differs ($table, $key, $change, $undo) {
    $postgres->sql($change, 'moved');
    my ($code, $said) = $h->run(@compare);
    is $code, 1, "$change: exit 1";
    like $said, qr/^\Q$table\E: \d+ rows, .* differ from \["\Q$key\E"\] to /m, '... and says where' or diag $said;
    is_deeply [map { $_->{table} } grep { !$_->{ok} } rows($said)], [$table], '... and in no other table' or diag $said;
    $postgres->sql($undo, 'moved');
}
my $one = $h->sql_value('SELECT id FROM deliveries ORDER BY id LIMIT 1 OFFSET 40');
differs('deliveries', $one, "UPDATE deliveries SET due_at = due_at + 1 WHERE id = '$one'", "UPDATE deliveries SET due_at = due_at - 1 WHERE id = '$one'");
differs('audit_log', 'a00777', q{DELETE FROM audit_log WHERE id = 'a00777'}, qq{INSERT INTO audit_log VALUES ('a00777', '$org', 'x', 'y', 'z', '{}', 777)});
differs('plans', 'zzz', q{INSERT INTO plans VALUES ('zzz', '', 1)}, q{DELETE FROM plans WHERE name = 'zzz'});
differs('users', 'user1', q{UPDATE users SET deleted_at = 0}, q{UPDATE users SET deleted_at = NULL});
($code, $said) = $h->run(@compare);
is $code, 0, 'without them it is the same again' or diag $said;
is_deeply [map { $_->{digest} } rows($said)], [map { $report{ $_->{table} }{digest} } rows($said)], '... with the same digests';
fails_with(qr/not empty: it has rows in organizations/, $source, 'migrate', 'copy', '--to', do { my $url = database('used'); run_on($url, 'org', 'create', '--name', 'o'); $url });
fails_with(qr/^audit_log: 2500 rows, 0 in the copy; they differ from \["a00001"\] to \["a01000"\]$/m, $source, 'migrate', 'copy', '--to', $postgres->url('rehearsed'));
fails_with(qr/does not exist/, $target, 'migrate', 'copy', '--from', 'sqlite:' . $t->path('nothing.db'));
fails_with(qr/--to says where/, $source, 'migrate', 'copy');

# ---- `serve` goes on there ----------------------------------------------------------------------

# As docs/operations.md has it, but for the places. What it compares is complete.
{
    my ($example) = $t->read_file($t->root . '/docs/operations.md') =~ /^<!-- test: move, t\/42-migrate\.t -->\n```sh\n(.*?)^```$/ms or die 'no example';
    $example =~ s{postgresql://headgate\@db\.internal/headgate}{$target}g;
    $example =~ s{/etc/headgate/headgate\.toml}{$h->{config}}g;
    my @lines = grep { !/^systemctl (?:stop|start) headgate$/ } split /\n/, $example;
    is scalar @lines, 2, 'the documented example';
    local $ENV{HEADGATE_CONFIG} = $h->config;
    for my $line (@lines) {
        my $command = $line =~ s/\Aheadgate /quotemeta($h->executable) . ' '/er;
        my $said    = `bash -c @{[ quotemeta $command ]} 2>&1`;
        is $?, 0, $line or diag $said;
    }
}
like $t->read_file($h->config), qr/^url = "\Q$target\E"$/m, 'the configuration names the new store';
# What SQL had made up.
$postgres->sql(q{DELETE FROM system_outbox WHERE id = 7000; DELETE FROM events WHERE type = 'old.one'}, 'moved');
$receiver->answer($_ => 200) for qw(hold block later);
$h->serve->wait_until_healthy;
$h->{crashed} = 0;    # from here on it ends as it should
$t->wait_for('what was in flight to arrive', sub { !grep { arrived('hold', $_) < 2 } @held });
wait_states($hold, success => 3);
is_deeply [sort map { $_->{event_id} } data("/api/deliveries?webhook_id=$hold")->{deliveries}->@*], [sort @held], 'what was pending is delivered, with the same ids';
is_deeply data($_), $shown{$_}, "the same as before: $_" for @lists;

# The head lets the others go, in their order.
my ($head) = grep { $_->{state} eq 'dead' } data("/api/deliveries?webhook_id=$block")->{deliveries}->@*;
is call('POST', "/api/deliveries/$head->{id}/retry", '{}')->status, 200, 'the head of the ordering key is retried';
wait_states($block, success => 5);
my $times = $receiver->received;
my @order = sort { $times->{"block $a"}[-1] <=> $times->{"block $b"}[-1] } @lines;
is_deeply \@order, \@lines, '... and what it held back follows in order';

# ---- the whole road on PostgreSQL ---------------------------------------------------------------

my $new = publish(payload => { after => 'the move' });
$t->wait_for('the new event to arrive', sub { arrived('good', $new) });
is_deeply [map { @$_{qw(id status)} } data('/inbox?limit=1')->[0]], [$new, 'pending'], 'it is in the inbox';
is call('POST', "/inbox/$new/ack", '{}')->status, 200, 'it is acknowledged';
is $postgres->sql("SELECT status FROM events WHERE id = '$new'", 'moved'), 'delivered', '... in PostgreSQL';
my $key = $h->run_json('key', 'create', '--org', $org, '--name', 'new', '--scopes', 'events:read');
cmp_ok $postgres->sql('SELECT last_value FROM projections_id_seq', 'moved'), '>', 9000, 'counters go on behind those that were copied';
is +($h->run('migrate', 'status'))[0], 0, 'nothing waits there';

$t->done;
