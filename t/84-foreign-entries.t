# Entries that somebody else than the edge wrote into the streams: what cannot be an event goes to quarantine with its bytes,
# and costs no other event anything; on both engines.
use v5.36;
use Test::More;

use Headgate::Credentials qw(uuid);
use Headgate::Http;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

my %BAD = (
    'no JSON'              => [payload => 'hello'],
    'cut JSON'             => [payload => '{"a":1'],
    'two values'           => [payload => '{}{}'],
    'members of a body'    => [payload => '{},"source":"x"'],
    'JSON that is Latin-1' => [payload => qq({"a":"\xe9"})],
    'a NUL in JSON'        => [payload => qq({"a":"\0"})],
    'a NUL in the source'  => [source  => "a\0b"],
    'a Latin-1 source'     => [source  => "caf\xe9"],
    'a Latin-1 key'        => [key     => "\xff"],
    'a Latin-1 org'        => [org     => "\xe9"],
    'a Latin-1 trace'      => [tp      => "\xe9"],
    'a time before 1970'   => [at      => -1],
);
my %GOOD = (
    'as the edge'       => [],
    'an escaped NUL'    => [payload => '{"a":"\u0000"}'],
    'any value'         => [payload => '[1, "x"]'],
    'a time of nobody'  => [at => 253_402_300_799_999],
    'the first time'    => [at => 0],
);

sub check ($engine, @store) {
    my $t = Headgate::Test->new;
    my $receiver = Headgate::Receiver->start($t);
    my $sidecar  = $t->sidecar(@store ? $store[0]->($t) : ());
    $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', $receiver->url('hook'), '--events', '*');
    $sidecar->serve->wait_until_healthy;
    my $front = $sidecar->front;
    my $redis = $sidecar->redis;
    my ($stream) = $redis->streams;
    my $add = sub (%other) {
        my %entry = (
            v => 1, id => uuid(), org => $sidecar->org, key => 'k', type => 'order.created', source => 'test',
            payload => '{"a":1}', ord => '', tp => '', via => 'api', at => int(time * 1000), %other,
        );
        $redis->command('XADD', $stream, '*', map { $_ => $entry{$_} } qw(v id org key type source payload ord tp via at));
        return $entry{id};
    };
    # In one batch.
    kill STOP => $sidecar->process->pid;
    my (@good, @bad);
    push @good, $add->($GOOD{$_}->@*) for sort keys %GOOD;
    push @bad,  $add->($BAD{$_}->@*)  for sort keys %BAD;
    push @good, $add->();
    kill CONT => $sidecar->process->pid;
    $t->wait_for("$engine: the good ones", sub { my $got = $receiver->received; @good == grep { $got->{"hook $_"} } @good });
    $t->wait_for("$engine: the stream to be empty", sub { $redis->event_count == 0 });
    is $sidecar->sql_value('SELECT count(*) FROM events'), scalar(@good), "$engine: these are events";
    is scalar(grep { $receiver->received->{"hook $_"} } @bad), 0, "$engine: the others were not sent";

    my $hex = $engine eq 'SQLite' ? 'lower(hex(bytes))' : q{encode(bytes, 'hex')};
    my @rows = $sidecar->sql("SELECT reason, $hex AS bytes FROM quarantine ORDER BY stream_id");
    my @reasons = map { (split / /, $_)[0] } map { $_->{reason} =~ s/^stream entry: field "(\w+)".*/$1/r } @rows;
    is_deeply [sort @reasons], [sort map { $BAD{$_}[0] } keys %BAD], "$engine: quarantine says which field";
    my %kept = map { $_->{bytes} => 1 } @rows;
    for my $name (sort keys %BAD) {
        my $bytes = unpack 'H*', $BAD{$name}[1];
        ok scalar(grep { /$bytes/ } keys %kept), "$engine: $name is kept with its bytes";
    }
    my $inbox = $front->request('GET', '/inbox', headers => ['X-API-Key' => $sidecar->api_key]);
    is $inbox->status, 200, "$engine: the inbox answers";
    is scalar($inbox->json->@*), scalar(@good), '... with all of them' or diag $inbox->body;
    my ($late) = $sidecar->sql('SELECT count(*) AS n FROM events WHERE created_at > ' . ((time + 60) * 1000) . ' OR created_at < ' . ((time - 600) * 1000));
    is $late->{n}, 0, "$engine: impossible times are those of their arrival";
    $t->done;
}

subtest SQLite     => sub { check('SQLite') };
subtest PostgreSQL => sub {
    check('PostgreSQL', sub ($t) { postgres => Headgate::Postgres->start($t) });
};
done_testing();
