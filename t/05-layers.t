# Which part includes which is fixed: the #include lines are read against the table of
# docs/architecture.md. And every file that page names is there.
use v5.36;
use Test::More;

use Headgate::Test;

my $root = Headgate::Test->root;

my @below = qw(common sidecar/base);
my %may_include = (
    'common'          => [],
    'ngx_module'      => ['common'],
    'sidecar/base'    => ['common'],
    'sidecar/store'   => [@below],
    'sidecar/io'      => [@below, 'sidecar/store'],
    'sidecar/match'   => [@below, 'sidecar/store'],
    'sidecar/ingest'  => [@below, 'sidecar/io', 'sidecar/store'],
    'sidecar/deliver' => [@below, 'sidecar/io', 'sidecar/store', 'sidecar/ingest'],
    'sidecar/api'     => [@below, map { "sidecar/$_" } qw(io match store ingest deliver)],
    'sidecar/cli'     => [@below, map { "sidecar/$_" } qw(. io match store ingest deliver api)],
    'sidecar'         => [@below, map { "sidecar/$_" } qw(io match store ingest deliver api cli)],
);

for my $part (sort keys %may_include) {
    my %allowed = map { $_ => 1 } $part, map { s{/\.\z}{}r } $may_include{$part}->@*;
    my @files   = glob "$root/$part/*.cpp $root/$part/*.h";
    my @wrong;
    for my $path (@files) {
        open my $file, '<', $path or die "$path: $!";
        while (my $line = <$file>) {
            my ($included) = $line =~ /^\s*#\s*include\s*"([^"]+)"/ or next;
            my $other = $included =~ s{/[^/]+\z}{}r;
            push @wrong, "$path: $included" if !$allowed{$other};
        }
    }
    ok scalar @files, "$part has sources";
    is_deeply \@wrong, [], "$part includes only what it may";
}

# common knows neither nginx nor Boost.
my @foreign = grep { /boost|ngx_|nginx\.h/ } map { my $path = $_; open my $file, '<', $path or die $!; map { "$path: $_" } grep { /^#include </ } <$file> }
    glob "$root/common/*.cpp $root/common/*.h";
is_deeply \@foreign, [], 'common includes neither nginx nor Boost';

# The page itself.
open my $page, '<', "$root/docs/architecture.md" or die $!;
my $text = do { local $/; <$page> };
my @missing;
while ($text =~ /`((?:[a-z_]+\/)*[\w-]+\.(?:h|cpp|t|pm))`/g) {
    my $name = $1;
    push @missing, $name if !grep { -e "$root/$_$name" } '', 'ngx_module/', 'sidecar/';
}
is_deeply \@missing, [], 'every file that docs/architecture.md names exists';

done_testing;
